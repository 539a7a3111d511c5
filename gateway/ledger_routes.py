"""The operations of the books: entries, holds, ledgers, accounts."""

from __future__ import annotations

from typing import Final, get_args

from engine import fx_shapes, hold_shapes, shapes
from engine.balances import Direction
from gateway import bodies, entries, entry_bodies, fx_rates, hold_bodies, holds, ledgers, wire
from gateway.query import ACCOUNT_METADATA, CREATED, CURSOR, LIMIT, METADATA, ORDER_OF_ENTRIES, PAGED, Parameter
from gateway.route import Route

# The table is laid out by hand: what belongs together stands in one line.
# fmt: off
POSTING: Final = (
    "account.not_found",
    "account.closed",
    "unbalanced_entry",
    "fx_rate_required",
    "fx_rate_expired",
    "fx_rate_mismatch",
    "fx_amount_mismatch",
    "not_found",
    "amount_out_of_range",
    "insufficient_funds",
    "condition_failed",
    "duplicate_entry",
    "lock_version_conflict",
    "validation.several_ledgers",
    "ledger.period_closed",
)
ENTRIES: Final = (
    Route(
        method="POST", path="/v1/entries", handler=entries.post_entry, tag="Entries", scope="ledger.write",
        body=entry_bodies.EntryCreate, answer=shapes.Entry, status=201, also=(202,), prefer_async=True,
        idempotent=True, etag=True, refusals=POSTING,
    ),
    Route(
        method="POST", path="/v1/entries/validate", handler=entries.validate_entry, tag="Entries", scope="ledger.write",
        body=entry_bodies.EntryCreate, answer=shapes.Entry, refusals=POSTING,
    ),
    Route(
        method="POST", path="/v1/entries/batch", handler=entries.post_batch, tag="Entries", scope="ledger.write",
        body=entry_bodies.EntryBatchCreate, answer=shapes.EntryBatch, status=201, also=(200,), idempotent=True,
        body_max=wire.BULK_BODY_MAX,
        refusals=(*POSTING, "not_found", "entry.not_pending", "entry.is_hold", "entry.not_posted", "entry.already_reversed"),
    ),
    Route(
        method="GET", path="/v1/entries", handler=entries.list_entries, tag="Entries", scope="ledger.read",
        answer=shapes.Entry, page=True, feed_cursor=True,
        query=(
            LIMIT, CURSOR, ORDER_OF_ENTRIES,
            Parameter(name="ledger_id", kind="id", meaning="Only entries of this ledger."),
            Parameter(name="account_id", kind="id", meaning="Only entries with a line on this account."),
            Parameter(
                name="account_category_id", kind="id", meaning="Only entries with a line on an account of this category.",
            ),
            Parameter(name="status", kind="choice", choices=get_args(shapes.EntryStatus), meaning="Only of this status."),
            Parameter(name="external_id", kind="text", meaning="Only entries with this external id."),
            Parameter(name="partially_posts", kind="id", meaning="Only parts that were posted of this pending entry or hold."),
            METADATA, ACCOUNT_METADATA, CREATED,
            Parameter(name="effective_at", kind="bounds", meaning="`effective_at[lt]=time`: bounds, also lte, gt, gte."),
            Parameter(name="posted_at", kind="bounds", meaning="`posted_at[lt]=time`: bounds, also lte, gt, gte."),
        ),
    ),
    Route(
        method="GET", path="/v1/entries/{id}", handler=entries.get_entry, tag="Entries", scope="ledger.read",
        answer=shapes.Entry, etag=True, feed_cursor=True,
    ),
    Route(
        method="PATCH", path="/v1/entries/{id}", handler=entries.change_entry, tag="Entries", scope="ledger.write",
        body=entry_bodies.EntryChange, answer=shapes.Entry, idempotent=True, conditional=True, etag=True,
        refusals=("entry.not_pending", "entry.is_hold", *POSTING),
    ),
    Route(
        method="POST", path="/v1/entries/{id}/post", handler=entries.post_pending, tag="Entries",
        scope="ledger.write", body=entry_bodies.EntryPost, body_optional=True, answer=shapes.Entry, idempotent=True,
        conditional=True, etag=True, refusals=("entry.not_pending", "entry.is_hold", "amount_out_of_range", "ledger.period_closed"),
    ),
    Route(
        method="POST", path="/v1/entries/{id}/partial_post", handler=entries.post_part, tag="Entries",
        scope="ledger.write", body=entry_bodies.EntryPartialPost, answer=shapes.Entry, idempotent=True, conditional=True,
        etag=True,
        refusals=("entry.not_pending", "entry.is_hold", "entry.part_exceeds", "unbalanced_entry", "amount_out_of_range", "ledger.period_closed"),
    ),
    Route(
        method="POST", path="/v1/entries/{id}/reverse", handler=entries.reverse_entry, tag="Entries",
        scope="ledger.write", body=entry_bodies.EntryReverse, body_optional=True, answer=shapes.Entry, status=201,
        idempotent=True, conditional=True, etag=True,
        refusals=("entry.not_posted", "entry.already_reversed", "entry.part_exceeds", "unbalanced_entry", "account.closed",
                  "insufficient_funds", "duplicate_entry", "amount_out_of_range", "ledger.period_closed"),
    ),
    Route(
        method="GET", path="/v1/entries/{id}/versions", handler=entries.list_versions, tag="Entries", scope="ledger.read",
        answer=shapes.EntryVersion, page=True, query=PAGED, feed_cursor=True,
    ),
    Route(
        method="GET", path="/v1/entries/{id}/balance_impact", handler=entries.get_impact, tag="Entries",
        scope="ledger.read", answer=shapes.BalanceImpact, feed_cursor=True,
    ),
    Route(
        method="POST", path="/v1/entries/{id}/archive", handler=entries.archive_entry, tag="Entries",
        scope="ledger.write", answer=shapes.Entry, idempotent=True, conditional=True, etag=True,
        refusals=("entry.not_pending", "entry.is_hold"),
    ),
)
HOLDS: Final = (
    Route(
        method="POST", path="/v1/holds", handler=holds.create_hold, tag="Holds", scope="ledger.write",
        body=hold_bodies.HoldCreate, answer=hold_shapes.Hold, status=201, idempotent=True, etag=True, refusals=POSTING,
    ),
    Route(
        method="GET", path="/v1/holds", handler=holds.list_holds, tag="Holds", scope="ledger.read",
        answer=hold_shapes.Hold, page=True, feed_cursor=True,
        query=(
            *PAGED,
            Parameter(name="ledger_id", kind="id", meaning="Only holds in this ledger."),
            Parameter(name="account_id", kind="id", meaning="Only holds with a line on this account."),
            Parameter(
                name="account_category_id", kind="id", meaning="Only holds with a line on an account of this category.",
            ),
            Parameter(name="status", kind="choice", choices=get_args(hold_shapes.HoldStatus), meaning="Only of this status."),
            Parameter(name="external_id", kind="text", meaning="Only holds with this external id."),
            METADATA, ACCOUNT_METADATA, CREATED,
            Parameter(name="expires_at", kind="bounds", meaning="`expires_at[lt]=time`: bounds, also lte, gt, gte."),
        ),
    ),
    Route(
        method="GET", path="/v1/holds/{id}", handler=holds.get_hold, tag="Holds", scope="ledger.read",
        answer=hold_shapes.Hold, etag=True, feed_cursor=True,
    ),
    Route(
        method="POST", path="/v1/holds/{id}/capture", handler=holds.capture_hold, tag="Holds", scope="ledger.write",
        body=hold_bodies.HoldCapture, body_optional=True, answer=hold_shapes.Hold, idempotent=True, conditional=True,
        etag=True,
        refusals=("hold.not_open", "hold.capture_exceeds", "unbalanced_entry", "amount_out_of_range", "ledger.period_closed"),
    ),
    Route(
        method="POST", path="/v1/holds/{id}/release", handler=holds.release_hold, tag="Holds", scope="ledger.write",
        answer=hold_shapes.Hold, idempotent=True, conditional=True, etag=True, refusals=("hold.not_open",),
    ),
)
RATES: Final = (
    Route(
        method="POST", path="/v1/fx_rates", handler=fx_rates.create_fx_rate, tag="FX rates", scope="ledger.write",
        body=fx_rates.FxRateCreate, answer=fx_shapes.FxRate, status=201, idempotent=True, etag=True,
    ),
    Route(
        method="GET", path="/v1/fx_rates", handler=fx_rates.list_fx_rates, tag="FX rates", scope="ledger.read",
        answer=fx_shapes.FxRate, page=True, feed_cursor=True,
        query=(
            *PAGED,
            Parameter(name="base", kind="text", meaning="Only rates of this base currency."),
            Parameter(name="quote", kind="text", meaning="Only rates of this quote currency."),
            METADATA, CREATED,
        ),
    ),
    Route(
        method="GET", path="/v1/fx_rates/{id}", handler=fx_rates.get_fx_rate, tag="FX rates", scope="ledger.read",
        answer=fx_shapes.FxRate, etag=True, feed_cursor=True,
    ),
)
_ENTITY: Final = Parameter(name="entity_id", kind="id", meaning="Only what belongs to this entity.")
LEDGERS: Final = (
    Route(
        method="POST", path="/v1/ledgers", handler=ledgers.create_ledger, tag="Ledgers", scope="ledger.admin",
        body=bodies.LedgerCreate, answer=shapes.Ledger, status=201, idempotent=True, etag=True, refusals=("not_found",),
    ),
    Route(
        method="GET", path="/v1/ledgers", handler=ledgers.list_ledgers, tag="Ledgers", scope="ledger.read",
        answer=shapes.Ledger, page=True, feed_cursor=True, query=(*PAGED, _ENTITY, METADATA, CREATED),
    ),
    Route(
        method="GET", path="/v1/ledgers/{id}", handler=ledgers.get_ledger, tag="Ledgers", scope="ledger.read",
        answer=shapes.Ledger, etag=True, feed_cursor=True,
    ),
    Route(
        method="PATCH", path="/v1/ledgers/{id}", handler=ledgers.change_ledger, tag="Ledgers", scope="ledger.admin",
        body=bodies.LedgerChange, answer=shapes.Ledger, idempotent=True, conditional=True, etag=True,
    ),
    Route(
        method="POST", path="/v1/accounts", handler=ledgers.create_account, tag="Accounts", scope="ledger.write",
        body=bodies.AccountCreate, answer=shapes.Account, status=201, idempotent=True, etag=True,
        refusals=("validation.not_unique", "account.code_taken", "currency_mismatch", "not_found"),
    ),
    Route(
        method="GET", path="/v1/accounts", handler=ledgers.list_accounts, tag="Accounts", scope="ledger.read",
        answer=shapes.Account, page=True, feed_cursor=True,
        query=(
            *PAGED,
            Parameter(name="ledger_id", kind="id", meaning="Only accounts of this ledger."),
            _ENTITY,
            Parameter(name="external_id", kind="text", meaning="Only the account with this external id."),
            Parameter(
                name="account_category_id", kind="id",
                meaning="Only accounts that count in this category, directly or through others.",
            ),
            Parameter(name="currency", kind="text", meaning="Only accounts in this currency."),
            Parameter(name="type", kind="choice", choices=get_args(shapes.AccountType), meaning="Only of this type."),
            Parameter(name="status", kind="choice", choices=("open", "closed"), meaning="Only of this status."),
            Parameter(name="code", kind="text", meaning="Only accounts with this chart-of-accounts code."),
            METADATA, CREATED,
        ),
    ),
    Route(
        method="GET", path="/v1/accounts/{id}", handler=ledgers.get_account, tag="Accounts", scope="ledger.read",
        answer=shapes.Account, etag=True, feed_cursor=True,
    ),
    Route(
        method="PATCH", path="/v1/accounts/{id}", handler=ledgers.change_account, tag="Accounts",
        scope="ledger.write", body=bodies.AccountChange, answer=shapes.Account, idempotent=True, conditional=True,
        etag=True, refusals=("account.closed", "account.code_taken"),
    ),
    Route(
        method="POST", path="/v1/accounts/{id}/close", handler=ledgers.close_account, tag="Accounts",
        scope="ledger.write", answer=shapes.Account, idempotent=True, conditional=True, etag=True,
        refusals=("account.closed", "account.not_empty"),
    ),
    Route(
        method="GET", path="/v1/accounts/{id}/lines", handler=ledgers.list_account_lines, tag="Accounts",
        scope="ledger.read", answer=shapes.AccountLine, page=True, query=PAGED, feed_cursor=True,
    ),
    Route(
        method="GET", path="/v1/lines", handler=ledgers.list_lines, tag="Accounts", scope="ledger.read",
        answer=shapes.LedgerLine, page=True, feed_cursor=True,
        query=(
            *PAGED,
            Parameter(name="account_id", kind="id", meaning="Only lines on this account."),
            Parameter(name="entity_id", kind="id", meaning="Only lines on accounts of this entity."),
            Parameter(name="ledger_id", kind="id", meaning="Only lines in this ledger."),
            ACCOUNT_METADATA,
            Parameter(name="direction", kind="choice", choices=get_args(Direction), meaning="Only of this side."),
            Parameter(
                name="status", kind="choice", choices=("pending", "posted", "archived", "discarded"),
                meaning="Only versions of this status; of `posted` each line has one at most.",
            ),
            Parameter(name="currency", kind="text", meaning="Only lines in this currency."),
            Parameter(name="amount", kind="amounts", meaning="`amount[gte]=number`: bounds in minor units, also gt, lt, lte."),
            Parameter(name="effective_at", kind="bounds", meaning="`effective_at[lt]=time`: bounds, also lte, gt, gte."),
            CREATED,
        ),
    ),
)
