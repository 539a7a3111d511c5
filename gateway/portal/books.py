"""The books for people: ledgers, accounts with balances, an account's lines with their running balance, entries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, get_args

import msgspec
from starlette.responses import Response

from engine import queries
from engine.hold_queries import list_holds
from engine.hold_shapes import Hold, HoldStatus
from engine.money import parse_instant
from engine.queries import Selection
from engine.shapes import Account, AccountLine, AccountType, Entry, EntryStatus
from gateway.portal.events import rows_of
from gateway.portal.origin import origins_of
from gateway.portal.rendering import amount, page
from gateway.portal.story import events_of
from gateway.portal.visit import Visit
from gateway.query import CURSOR, Parameter

ROWS: Final = 50
LEDGERS_SHOWN: Final = 100
EVENTS_SHOWN: Final = 20
_ACCOUNT_FILTERS: Final = (
    Parameter(name="ledger_id", kind="id", meaning="Only accounts of this ledger."),
    Parameter(name="type", kind="choice", choices=get_args(AccountType), meaning="Only of this type."),
    Parameter(name="currency", kind="text", meaning="Only accounts in this currency."),
    Parameter(name="external_id", kind="text", meaning="Only the account with this external id."),
    Parameter(name="code", kind="text", meaning="Only accounts with this code."),
)
_ENTRY_FILTERS: Final = (
    Parameter(name="ledger_id", kind="id", meaning="Only entries of this ledger."),
    Parameter(name="account_id", kind="id", meaning="Only entries with a line on this account."),
    Parameter(name="status", kind="choice", choices=get_args(EntryStatus), meaning="Only of this status."),
    Parameter(name="external_id", kind="text", meaning="Only entries with this external id."),
)


_HOLD_FILTERS: Final = (
    Parameter(name="ledger_id", kind="id", meaning="Only holds of this ledger."),
    Parameter(name="account_id", kind="id", meaning="Only holds with a line on this account."),
    Parameter(name="status", kind="choice", choices=get_args(HoldStatus), meaning="Only of this status."),
    Parameter(name="external_id", kind="text", meaning="Only holds with this external id."),
)


async def ledgers_page(visit: Visit) -> Response:
    """List ledgers, the newest first."""
    wanted = visit.asked(CURSOR).selection()
    found = (await visit.services.engine.ask(visit.site, queries.list_ledgers, wanted)).value
    return page(visit, "ledgers.html", ledgers=found.items, next_page=_next(visit, found.next_cursor))


async def ledger_page(visit: Visit) -> Response:
    """Show one ledger with its accounts and its newest entries."""
    engine, site, ledger_id = visit.services.engine, visit.site, visit.path_id("ledger")
    ledger = (await engine.ask(site, queries.ledger, ledger_id)).value
    of_ledger = Selection(limit=ROWS, cursor=visit.asked(CURSOR).get("cursor"), equals={"ledger_id": ledger_id})
    accounts = (await engine.ask(site, queries.list_accounts, of_ledger)).value
    entries = (await engine.ask(site, queries.list_entries, Selection(limit=10, equals={"ledger_id": ledger_id}))).value
    return page(
        visit,
        "ledger.html",
        ledger=ledger,
        accounts=accounts.items,
        entries=entries.items,
        exponents=await _exponents(visit, entries.items),
        next_page=_next(visit, accounts.next_cursor),
    )


async def accounts_page(visit: Visit) -> Response:
    """List accounts with their balances; the filter is in the address."""
    asked = visit.asked(*_ACCOUNT_FILTERS, CURSOR)
    wanted = asked.selection("ledger_id", "type", "currency", "external_id", "code")
    found = (await visit.services.engine.ask(visit.site, queries.list_accounts, wanted)).value
    return page(
        visit,
        "accounts.html",
        accounts=found.items,
        asked=asked,
        ledgers=await _ledger_names(visit),
        types=get_args(AccountType),
        next_page=_next(visit, found.next_cursor),
    )


async def account_page(visit: Visit) -> Response:
    """Show one account: balances, a plot of the newest lines, and the lines behind them."""
    engine, site, account_id = visit.services.engine, visit.site, visit.path_id("account")
    account = (await engine.account(site, account_id)).value
    wanted = Selection(limit=ROWS, cursor=visit.asked(CURSOR).get("cursor"))
    lines = (await engine.ask(site, queries.account_lines, account_id, wanted)).value
    return page(
        visit,
        "account.html",
        account=account,
        held=account.balances.posted.amount - account.balances.available.amount,
        lines=lines.items,
        plot=_plot(account, lines.items),
        next_page=_next(visit, lines.next_cursor),
    )


async def entries_page(visit: Visit) -> Response:
    """List entries, the newest first; the filter is in the address."""
    asked = visit.asked(*_ENTRY_FILTERS, CURSOR)
    wanted = asked.selection("ledger_id", "status", "external_id")
    account_id = asked.get("account_id")
    found = (await visit.services.engine.ask(visit.site, queries.list_entries, wanted, account_id)).value
    return page(
        visit,
        "entries.html",
        entries=found.items,
        exponents=await _exponents(visit, found.items),
        asked=asked,
        ledgers=await _ledger_names(visit),
        statuses=get_args(EntryStatus),
        next_page=_next(visit, found.next_cursor),
    )


async def entry_page(visit: Visit) -> Response:
    """Show one entry with its lines and the events it led to."""
    engine, site = visit.services.engine, visit.site
    entry = (await engine.ask(site, queries.entry, visit.path_id("entry"))).value
    accounts = await _accounts(visit, [entry])
    events, _ = await engine.events_before(site, None, EVENTS_SHOWN, resource_id=entry.id)
    return page(
        visit,
        "entry.html",
        entry=entry,
        accounts=accounts,
        exponents={key: account.currency_exponent for key, account in accounts.items()},
        events=rows_of(events),
        metadata=msgspec.json.encode(entry.metadata),
        origins=origins_of(await events_of(visit, entry.id)),
    )


async def holds_page(visit: Visit) -> Response:
    """List holds, the newest first; the filter is in the address."""
    asked = visit.asked(*_HOLD_FILTERS, CURSOR)
    wanted = asked.selection("ledger_id", "status", "external_id")
    found = (await visit.services.engine.ask(visit.site, list_holds, wanted, asked.get("account_id"))).value
    return page(
        visit,
        "holds.html",
        holds=found.items,
        exponents=await _exponents(visit, found.items),
        asked=asked,
        ledgers=await _ledger_names(visit),
        statuses=get_args(HoldStatus),
        next_page=_next(visit, found.next_cursor),
    )


async def _ledger_names(visit: Visit) -> dict[str, str]:
    found = await visit.services.engine.ask(visit.site, queries.list_ledgers, Selection(limit=LEDGERS_SHOWN))
    return {each.id: each.name for each in found.value.items}


async def _accounts(visit: Visit, entries: Sequence[Entry | Hold]) -> dict[str, Account]:
    ids = {line.account_id for entry in entries for line in entry.lines}
    found = await visit.services.engine.ask(visit.site, queries.accounts_named, sorted(ids))
    return {account.id: account for account in found.value}


async def _exponents(visit: Visit, entries: Sequence[Entry | Hold]) -> dict[str, int]:
    """Return the currency exponents of the accounts that entries touch."""
    return {key: account.currency_exponent for key, account in (await _accounts(visit, entries)).items()}


def _next(visit: Visit, cursor: str | None) -> str | None:
    return None if cursor is None else visit.same_page_with(cursor=cursor)


def _plot(account: Account, lines: list[AccountLine]) -> str:
    """Return the running balance of lines, the oldest first, as JSON for the plot: seconds, whole units, and those in words."""
    points = [
        (
            parse_instant(line.created_at) / 1_000_000,
            line.resulting_balances.posted.amount / 10**account.currency_exponent,
        )
        for line in reversed(lines)
    ]
    texts = [amount(line.resulting_balances.posted.amount, account.currency_exponent) for line in reversed(lines)]
    return msgspec.json.encode([[at for at, _ in points], [value for _, value in points], texts]).decode()
