"""Ledgers and accounts over HTTP."""

from __future__ import annotations

from starlette.responses import Response

from engine import line_queries, queries
from engine.commands import CloseAccount, Command
from engine.fold import Committed
from engine.idempotency import IdempotencyKey
from engine.line_queries import LineSelection
from gateway import bodies, lists, wire
from gateway.call import Call
from gateway.query import Asked


async def create_ledger(call: Call, _asked: Asked) -> Response:
    """Open a ledger."""
    document = await call.document()
    command = wire.decode(document, bodies.LedgerCreate).command()
    return await created(call, command, call.idempotency(document), "/v1/ledgers/")


async def list_ledgers(call: Call, asked: Asked) -> Response:
    """List ledgers, the newest first."""
    return lists.page(
        call, await call.services.engine.ask(call.site, queries.list_ledgers, asked.selection("entity_id"))
    )


async def get_ledger(call: Call, _asked: Asked) -> Response:
    """Return one ledger."""
    found = await call.services.engine.ask(call.site, queries.ledger, call.path_id("ledger"))
    return lists.one(found, found.value.lock_version)


async def change_ledger(call: Call, _asked: Asked) -> Response:
    """Change a ledger's name, description or metadata."""
    document = await call.document()
    change = wire.decode(document, bodies.LedgerChange)
    command = change.command(call.path_id("ledger"), call.if_match())
    return await submit(call, command, call.idempotency(document))


async def create_account(call: Call, _asked: Asked) -> Response:
    """Open an account in a ledger."""
    document = await call.document()
    command = wire.decode(document, bodies.AccountCreate).command()
    return await created(call, command, call.idempotency(document), "/v1/accounts/")


async def list_accounts(call: Call, asked: Asked) -> Response:
    """List accounts with their balances, the newest first."""
    wanted = asked.selection("ledger_id", "entity_id", "external_id", "currency", "type", "status", "code")
    category_id = asked.get("account_category_id")
    return lists.page(call, await call.services.engine.ask(call.site, queries.list_accounts, wanted, category_id))


async def get_account(call: Call, _asked: Asked) -> Response:
    """Return one account with its balances."""
    found = await call.services.engine.account(call.site, call.path_id("account"))
    return lists.one(found, found.value.lock_version)


async def change_account(call: Call, _asked: Asked) -> Response:
    """Change an account's name, description, code, metadata, or what it may come to."""
    document = await call.document()
    change = wire.decode(document, bodies.AccountChange)
    command = change.command(call.path_id("account"), call.if_match())
    return await submit(call, command, call.idempotency(document))


async def close_account(call: Call, _asked: Asked) -> Response:
    """Close an account that is empty."""
    document = await call.empty_document()
    command = CloseAccount(account_id=call.path_id("account"), if_match=call.if_match())
    return await submit(call, command, call.idempotency(document))


async def list_account_lines(call: Call, asked: Asked) -> Response:
    """List an account's lines with the balance after each, the newest first."""
    account_id = call.path_id("account")
    return lists.page(
        call,
        await call.services.engine.ask(call.site, queries.account_lines, account_id, asked.selection()),
    )


async def list_lines(call: Call, asked: Asked) -> Response:
    """List the lines of all ledgers, every version of each, those of the newest entry first."""
    given = asked.selection("direction", "status", "currency")
    wanted = LineSelection(
        limit=given.limit,
        cursor=given.cursor,
        ascending=given.ascending,
        account_id=asked.get("account_id"),
        entity_id=asked.get("entity_id"),
        ledger_id=asked.get("ledger_id"),
        account_metadata=given.account_metadata,
        equals=given.equals,
        bounds=given.bounds,
    )
    return lists.page(call, await call.services.engine.ask(call.site, line_queries.list_lines, wanted))


async def submit(call: Call, command: Command, key: IdempotencyKey | None) -> Response:
    """Have the books do it, and return what it came to."""
    return lists.committed(await _submit(call, command, key))


async def created(call: Call, command: Command, key: IdempotencyKey | None, collection: str) -> Response:
    """Have the books make it, and return it with where it is found."""
    done = await _submit(call, command, key)
    return lists.committed(done, status=201, location=f"{collection}{done.resource_id}")


async def _submit(call: Call, command: Command, key: IdempotencyKey | None) -> Committed:
    return await call.services.engine.submit(call.site, command, key=key, diagnostics=call.trace.diagnostics())
