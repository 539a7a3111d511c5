"""The rows of the books as the pure core handles them: one typed dictionary per table, keyed by column."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal, TypedDict

LIVE_STATUSES: Final = ("accepted", "pending", "posted")
"""The statuses in which an entry holds its external id."""

ResourceRow = dict[str, Any]
"""A row of what stands beside the books: keyed by column, with `site_id` and `id` among them."""

RESOURCE_NAMES: Final[Mapping[str, tuple[str, ...]]] = {
    "account_category": ("external_id",),
    "balance_monitor": (),
    "acceptance": (),
    "fx_rate": (),
    "hold": (),
    "business_event": ("external_id",),
    "event_handler": (),
    "entity": ("external_id",),
    "currency": ("code",),
    "product": ("code",),
}
"""The kinds of resources beside the books, and by which columns besides `id` each of them is looked up."""

RESOURCE_GROUPS: Final[Mapping[str, str]] = {"balance_monitor": "subject_id"}
"""Kinds of which many belong to one thing, and the column that names it."""


class LedgerRow(TypedDict):
    """A row of `ledgers`; instants in microseconds."""

    site_id: int
    id: str
    entity_id: str | None
    name: str
    description: str | None
    status: Literal["active"]
    metadata: dict[str, str]
    closed_until: int | None
    lock_version: int
    created_at: int
    updated_at: int


class AccountRow(TypedDict):
    """A row of `accounts`; what postings change stands in `balances`."""

    site_id: int
    id: str
    ledger_id: str
    entity_id: str | None
    name: str
    description: str | None
    type: Literal["asset", "liability", "equity", "revenue", "expense"]
    normal_balance: Literal["debit", "credit"]
    currency: str
    currency_exponent: int
    code: str | None
    external_id: str | None
    allow_negative: bool
    purpose: Literal["fx_clearing", "fx_rounding"] | None
    limits: list[dict[str, Any]]
    categories: int
    monitors: int
    status: Literal["open", "closed"]
    metadata: dict[str, str]
    created_at: int
    updated_at: int


class EntryRow(TypedDict):
    """A row of `entries`."""

    site_id: int
    id: str
    ledger_id: str
    status: Literal["accepted", "pending", "posted", "archived", "rejected"]
    description: str | None
    external_id: str | None
    metadata: dict[str, str]
    effective_at: int
    posted_at: int | None
    lines_version: int
    lock_version: int
    reverses: str | None
    reversed_by: str | None
    partially_posts: str | None
    fx_rate_id: str | None
    held: bool
    business_event_id: str | None
    created_at: int
    updated_at: int


class LineRow(TypedDict):
    """A row of `lines`: one version of one line, with its account's totals right after it."""

    site_id: int
    entry_id: str
    version: int
    position: int
    id: str
    account_id: str
    direction: Literal["debit", "credit"]
    amount: int
    currency: str
    normal_balance: Literal["debit", "credit"]
    status: Literal["pending", "posted", "archived", "discarded"]
    metadata: dict[str, str]
    posted_moved: int
    pending_moved: int
    account_lock_version: int
    posted_debits: int
    posted_credits: int
    pending_debits: int
    pending_credits: int
    effective_at: int
    created_at: int
