"""Balance monitors over HTTP: a condition on an account's or a category's balance, and whether it holds."""

from __future__ import annotations

from starlette.responses import Response

from engine import category_queries
from engine.category_commands import ArchiveMonitor
from gateway import category_bodies, lists, wire
from gateway.call import Call
from gateway.ledgers import created, submit
from gateway.query import Asked

_MONITOR = "balance monitor"


async def create_monitor(call: Call, _asked: Asked) -> Response:
    """Watch a balance of an account or a category; whether the condition holds already stands in the answer."""
    document = await call.document()
    command = wire.decode(document, category_bodies.BalanceMonitorCreate).command()
    return await created(call, command, call.idempotency(document), "/v1/balance_monitors/")


async def list_monitors(call: Call, asked: Asked) -> Response:
    """List monitors with their states, the newest first."""
    wanted = asked.selection("status", "triggered")
    subject_ids = [asked.get("account_id"), asked.get("account_category_id")]
    query = category_queries.list_monitors
    found = await call.services.engine.ask(call.site, query, wanted, [each for each in subject_ids if each is not None])
    return lists.page(call, found)


async def get_monitor(call: Call, _asked: Asked) -> Response:
    """Return one monitor with its state."""
    found = await call.services.engine.ask(call.site, category_queries.monitor, call.path_id(_MONITOR))
    return lists.one(found, found.value.lock_version)


async def change_monitor(call: Call, _asked: Asked) -> Response:
    """Change what a monitor watches for, its description or metadata; its state is that of the new condition at once."""
    document = await call.document()
    change = wire.decode(document, category_bodies.BalanceMonitorChange)
    return await submit(call, change.command(call.path_id(_MONITOR), call.if_match()), call.idempotency(document))


async def archive_monitor(call: Call, _asked: Asked) -> Response:
    """Stop watching, for good; the monitor stays to be read."""
    await call.empty_document()
    return await submit(call, ArchiveMonitor(monitor_id=call.path_id(_MONITOR), if_match=call.if_match()), None)
