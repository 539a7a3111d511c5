"""The operations of categories and monitors."""

from __future__ import annotations

from typing import Final

from engine import category_shapes, shapes
from gateway import categories, category_bodies, monitors
from gateway.query import CREATED, METADATA, PAGED, Parameter
from gateway.route import Route

# The table is laid out by hand: what belongs together stands in one line.
# fmt: off
_CATEGORY: Final = "/v1/account_categories/{id}"
_MONITOR: Final = "/v1/balance_monitors/{id}"
_FITS: Final = ("account_category.mismatch", "account_category.limit_reached", "amount_out_of_range")
CATEGORIES: Final = (
    Route(
        method="POST", path="/v1/account_categories", handler=categories.create_category, tag="Categories",
        scope="ledger.write", body=category_bodies.AccountCategoryCreate, answer=category_shapes.AccountCategory, status=201,
        idempotent=True, etag=True, refusals=("validation.not_unique", "currency_mismatch", "not_found", "amount_out_of_range"),
    ),
    Route(
        method="GET", path="/v1/account_categories", handler=categories.list_categories, tag="Categories",
        scope="ledger.read", answer=category_shapes.AccountCategory, page=True, feed_cursor=True,
        query=(
            *PAGED,
            Parameter(name="ledger_id", kind="id", meaning="Only categories of this ledger."),
            Parameter(name="currency", kind="text", meaning="Only categories in this currency."),
            Parameter(name="external_id", kind="text", meaning="Only the category with this external id."),
            Parameter(name="account_id", kind="id", meaning="Only categories that this account was put into."),
            Parameter(
                name="parent_account_category_id", kind="id", meaning="Only categories that were put into this one.",
            ),
            METADATA, CREATED,
        ),
    ),
    Route(
        method="GET", path=_CATEGORY, handler=categories.get_category, tag="Categories", scope="ledger.read",
        answer=category_shapes.AccountCategory, etag=True, feed_cursor=True,
    ),
    Route(
        method="GET", path=f"{_CATEGORY}/balance", handler=categories.get_category_balance, tag="Categories",
        scope="ledger.read", answer=category_shapes.CategoryBalance, etag=True, feed_cursor=True,
        query=(
            Parameter(name="as_of", kind="instant", meaning="What took effect by this time, and at it."),
            Parameter(name="known_at", kind="instant", meaning="Of what was recorded by this time."),
        ),
    ),
    Route(
        method="PATCH", path=_CATEGORY, handler=categories.change_category, tag="Categories", scope="ledger.write",
        body=category_bodies.AccountCategoryChange, answer=category_shapes.AccountCategory, idempotent=True,
        conditional=True, etag=True, refusals=("amount_out_of_range",),
    ),
    Route(
        method="GET", path=f"{_CATEGORY}/accounts", handler=categories.list_category_accounts, tag="Categories",
        scope="ledger.read", answer=shapes.Account, page=True, query=PAGED, feed_cursor=True,
    ),
    Route(
        method="PUT", path=f"{_CATEGORY}/accounts/{{member_id}}", handler=categories.add_account, tag="Categories",
        scope="ledger.write", answer=category_shapes.CategoryMember, conditional=True, etag=True, refusals=_FITS,
    ),
    Route(
        method="DELETE", path=f"{_CATEGORY}/accounts/{{member_id}}", handler=categories.remove_account, tag="Categories",
        scope="ledger.write", answer=category_shapes.CategoryMember, conditional=True, etag=True,
    ),
    Route(
        method="GET", path=f"{_CATEGORY}/account_categories", handler=categories.list_subcategories, tag="Categories",
        scope="ledger.read", answer=category_shapes.AccountCategory, page=True, query=PAGED, feed_cursor=True,
    ),
    Route(
        method="PUT", path=f"{_CATEGORY}/account_categories/{{member_id}}", handler=categories.add_subcategory,
        tag="Categories", scope="ledger.write", answer=category_shapes.CategoryMember, conditional=True, etag=True,
        refusals=("account_category.cycle", *_FITS),
    ),
    Route(
        method="DELETE", path=f"{_CATEGORY}/account_categories/{{member_id}}", handler=categories.remove_subcategory,
        tag="Categories", scope="ledger.write", answer=category_shapes.CategoryMember, conditional=True, etag=True,
    ),
    Route(
        method="POST", path="/v1/balance_monitors", handler=monitors.create_monitor, tag="Monitors", scope="ledger.write",
        body=category_bodies.BalanceMonitorCreate, answer=category_shapes.BalanceMonitor, status=201, idempotent=True,
        etag=True, refusals=("not_found", "balance_monitor.limit_reached", "amount_out_of_range"),
    ),
    Route(
        method="GET", path="/v1/balance_monitors", handler=monitors.list_monitors, tag="Monitors", scope="ledger.read",
        answer=category_shapes.BalanceMonitor, page=True, feed_cursor=True,
        query=(
            *PAGED,
            Parameter(name="account_id", kind="id", meaning="Only monitors of this account."),
            Parameter(name="account_category_id", kind="id", meaning="Only monitors of this category."),
            Parameter(name="status", kind="choice", choices=("active", "archived"), meaning="Only of this status."),
            Parameter(name="triggered", kind="boolean", meaning="Only those whose condition holds, or does not."),
            METADATA, CREATED,
        ),
    ),
    Route(
        method="GET", path=_MONITOR, handler=monitors.get_monitor, tag="Monitors", scope="ledger.read",
        answer=category_shapes.BalanceMonitor, etag=True, feed_cursor=True,
    ),
    Route(
        method="PATCH", path=_MONITOR, handler=monitors.change_monitor, tag="Monitors", scope="ledger.write",
        body=category_bodies.BalanceMonitorChange, answer=category_shapes.BalanceMonitor, idempotent=True, conditional=True,
        etag=True, refusals=("balance_monitor.archived", "amount_out_of_range"),
    ),
    Route(
        method="DELETE", path=_MONITOR, handler=monitors.archive_monitor, tag="Monitors", scope="ledger.write",
        answer=category_shapes.BalanceMonitor, conditional=True, etag=True, refusals=("balance_monitor.archived",),
    ),
)
# fmt: on
