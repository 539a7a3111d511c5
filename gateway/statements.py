"""Questions about time over HTTP: balances at a moment, series of them, statements, trial balances."""

from __future__ import annotations

from typing import TypeVar

from msgspec import Struct
from starlette.responses import Response

from engine import statements
from engine.errors import Fault
from engine.history import NOW, Moment
from engine.ledger import Answered
from engine.statements import Stretch
from gateway import lists
from gateway.call import Call
from gateway.problems import invalid
from gateway.query import Asked

AnyStruct = TypeVar("AnyStruct", bound=Struct)


async def get_balance(call: Call, asked: Asked) -> Response:
    """Return an account's balances, now or at a moment of the past or of the future."""
    moment = Moment(as_of=asked.get("as_of"), known_at=asked.get("known_at"), version=asked.get("as_of_lock_version"))
    if moment.known_at is not None and moment.version is not None:
        detail = "A version tells by itself what was known: give one of as_of_lock_version and known_at."
        raise invalid([Fault(code="validation.invalid_value", pointer="?known_at", detail=detail)])
    account_id, engine = call.path_id("account"), call.services.engine
    found = (
        await engine.balance(call.site, account_id)
        if moment == NOW
        else await engine.ask(call.site, statements.balance_at, account_id, moment)
    )
    return lists.one(found, found.value.lock_version)


async def get_balance_history(call: Call, asked: Asked) -> Response:
    """Return an account's balances at the end of every hour, day or month."""
    return _paged(
        call,
        await call.services.engine.ask(
            call.site,
            statements.balance_history,
            call.path_id("account"),
            asked.get("interval"),
            _stretch(asked),
            asked.get("known_at"),
        ),
    )


async def get_statement(call: Call, asked: Asked) -> Response:
    """Return an account's statement: opening balances, every line of the time asked for, closing balances."""
    account_id = call.path_id("account")
    stretch, known_at = _stretch(asked), asked.get("known_at")
    return _paged(call, await call.services.engine.ask(call.site, statements.statement, account_id, stretch, known_at))


async def get_trial_balance(call: Call, asked: Asked) -> Response:
    """Return what the accounts of a ledger come to, and that both sides agree."""
    return _paged(
        call,
        await call.services.engine.ask(
            call.site,
            statements.trial_balance,
            call.path_id("ledger"),
            Moment(as_of=asked.get("as_of"), known_at=asked.get("known_at")),
            asked.values.get("limit", 50),
            asked.get("cursor"),
        ),
    )


def _stretch(asked: Asked) -> Stretch:
    start, end = asked.values["from"], asked.values["to"]
    if start >= end:
        raise invalid([Fault(code="validation.out_of_range", pointer="?to", detail="`to` is after `from`.")])
    return Stretch(start=start, end=end, limit=asked.values.get("limit", 50), cursor=asked.get("cursor"))


def _paged(call: Call, found: Answered[AnyStruct]) -> Response:
    response = lists.one(found)
    next_cursor = getattr(found.value, "next_cursor", None)
    if next_cursor is not None:
        response.headers["link"] = lists.next_link(call, "cursor", next_cursor)
    return response
