"""`gledger trigger`: makes something happen in a sandbox, by real requests, so that an event of the type that was asked for follows."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from typing import Any, Final

from gledger.errors import ProgramError
from gledger.remote import Remote

_AMOUNT: Final = 1_000


class _Stage:
    """A small ledger of its own, made for one trigger."""

    def __init__(self, remote: Remote) -> None:
        self._remote = remote
        self._run = secrets.token_hex(3)

    async def post(self, path: str, body: Any = None) -> dict[str, Any]:
        """Return what a request made."""
        return await self._remote.ask("POST", path, body)

    async def patch(self, path: str, body: Any) -> dict[str, Any]:
        """Return what a request changed."""
        return await self._remote.ask("PATCH", path, body)

    async def ledger(self) -> dict[str, Any]:
        """Make a ledger."""
        return await self.post("/v1/ledgers", {"name": f"Triggered {self._run}"})

    async def account(self, ledger_id: str, kind: str = "asset") -> dict[str, Any]:
        """Make an account."""
        body = {"ledger_id": ledger_id, "name": f"Triggered {kind} {self._run}", "type": kind, "currency": "USD"}
        return await self.post("/v1/accounts", body)

    async def lines(self) -> list[dict[str, Any]]:
        """Make a ledger with two accounts and return the lines of a movement between them."""
        ledger = await self.ledger()
        debit, credit = [await self.account(ledger["id"], kind) for kind in ("asset", "liability")]
        return [
            {"account_id": debit["id"], "direction": "debit", "amount": _AMOUNT},
            {"account_id": credit["id"], "direction": "credit", "amount": _AMOUNT},
        ]

    async def entry(self, status: str = "posted") -> dict[str, Any]:
        """Make an entry."""
        body = {"lines": await self.lines(), "status": status, "description": f"Triggered {self._run}"}
        return await self.post("/v1/entries", body)


async def _ledger_created(stage: _Stage) -> dict[str, Any]:
    return await stage.ledger()


async def _ledger_updated(stage: _Stage) -> dict[str, Any]:
    ledger = await stage.ledger()
    return await stage.patch(f"/v1/ledgers/{ledger['id']}", {"description": "Changed by a trigger"})


async def _account_created(stage: _Stage) -> dict[str, Any]:
    return await stage.account((await stage.ledger())["id"])


async def _account_updated(stage: _Stage) -> dict[str, Any]:
    account = await _account_created(stage)
    return await stage.patch(f"/v1/accounts/{account['id']}", {"description": "Changed by a trigger"})


async def _entry_created(stage: _Stage) -> dict[str, Any]:
    return await stage.entry("pending")


async def _entry_updated(stage: _Stage) -> dict[str, Any]:
    entry = await stage.entry("pending")
    return await stage.patch(f"/v1/entries/{entry['id']}", {"description": "Changed by a trigger"})


async def _entry_posted(stage: _Stage) -> dict[str, Any]:
    return await stage.entry()


async def _entry_archived(stage: _Stage) -> dict[str, Any]:
    entry = await stage.entry("pending")
    return await stage.post(f"/v1/entries/{entry['id']}/archive")


async def _entry_reversed(stage: _Stage) -> dict[str, Any]:
    entry = await stage.entry()
    return await stage.post(f"/v1/entries/{entry['id']}/reverse")


async def _hold_created(stage: _Stage) -> dict[str, Any]:
    return await stage.post("/v1/holds", {"lines": await stage.lines()})


async def _hold_captured(stage: _Stage) -> dict[str, Any]:
    hold = await _hold_created(stage)
    return await stage.post(f"/v1/holds/{hold['id']}/capture", {"final": True})


async def _hold_released(stage: _Stage) -> dict[str, Any]:
    hold = await _hold_created(stage)
    return await stage.post(f"/v1/holds/{hold['id']}/release")


TRIGGERS: Final[dict[str, Callable[[_Stage], Awaitable[dict[str, Any]]]]] = {
    "account.created": _account_created,
    "account.updated": _account_updated,
    "entry.archived": _entry_archived,
    "entry.created": _entry_created,
    "entry.posted": _entry_posted,
    "entry.reversed": _entry_reversed,
    "entry.updated": _entry_updated,
    "hold.captured": _hold_captured,
    "hold.created": _hold_created,
    "hold.released": _hold_released,
    "ledger.created": _ledger_created,
    "ledger.updated": _ledger_updated,
}


async def trigger(remote: Remote, event_type: str) -> dict[str, Any]:
    """Make an event of a type happen and return what was made; raises ProgramError outside a sandbox, or for another type."""
    if event_type not in TRIGGERS:
        raise ProgramError(f"{event_type} cannot be triggered; one of {', '.join(TRIGGERS)}")
    if remote.access.environment != "sandbox":
        raise ProgramError("only a sandbox is made to do things: this key is not of one")
    return await TRIGGERS[event_type](_Stage(remote))
