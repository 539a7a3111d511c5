"""Entries over HTTP: post, reserve, post what was reserved, give it up."""

from __future__ import annotations

import msgspec
from starlette.responses import Response

from engine import impact, queries
from engine.commands import AcceptEntry, ArchiveEntry, Validate
from gateway import entry_bodies, lists, wire
from gateway.call import Call
from gateway.ledgers import submit
from gateway.query import Asked


class _Status(msgspec.Struct):
    status: str


async def post_entry(call: Call, _asked: Asked) -> Response:
    """Post a balanced entry, or reserve it as pending; the answer has the resulting balances of every line."""
    document = await call.document()
    entry = wire.decode(document, entry_bodies.EntryCreate)
    key = call.idempotency(document, entry.idempotency_key)
    later = entry.status == "posted" and call.prefers("respond-async")
    command = AcceptEntry(entry=entry.command()) if later else entry.command()
    done = await call.services.engine.submit(call.site, command, key=key, diagnostics=call.trace.diagnostics())
    if done.replayed:
        # What the first request preferred is what it was answered, and this one is.
        later = msgspec.json.decode(done.body, type=_Status).status == "accepted"
    answer = lists.committed(done, status=202 if later else 201, location=f"/v1/entries/{done.resource_id}")
    if later:
        answer.headers["preference-applied"] = "respond-async"
    return answer


async def validate_entry(call: Call, _asked: Asked) -> Response:
    """Return what posting an entry would be answered with, resulting balances included; nothing is kept."""
    document = await call.document()
    entry = wire.decode(document, entry_bodies.EntryCreate)
    done = await call.services.engine.submit(call.site, Validate(command=entry.command()))
    return lists.committed(done)


async def post_batch(call: Call, _asked: Asked) -> Response:
    """Post several entries, all of them or none, or each for itself; later ones may refer to earlier ones."""
    document = await call.document()
    batch = wire.decode(document, entry_bodies.EntryBatchCreate)
    key = call.idempotency(document, batch.idempotency_key)
    done = await call.services.engine.submit(
        call.site,
        batch.command(),
        key=key,
        diagnostics=call.trace.diagnostics(),
    )
    return lists.committed(done, status=201 if batch.mode == "atomic" else 200)


async def list_entries(call: Call, asked: Asked) -> Response:
    """List entries, the newest first."""
    wanted = asked.selection("ledger_id", "status", "external_id", "partially_posts")
    account_id = asked.get("account_id")
    return lists.page(
        call,
        await call.services.engine.ask(
            call.site, queries.list_entries, wanted, account_id, asked.get("account_category_id")
        ),
    )


async def get_entry(call: Call, _asked: Asked) -> Response:
    """Return one entry with its lines."""
    found = await call.services.engine.ask(call.site, queries.entry, call.path_id("entry"))
    return lists.one(found, found.value.lock_version)


async def change_entry(call: Call, _asked: Asked) -> Response:
    """Change an entry's description or metadata, whatever its status."""
    document = await call.document()
    change = wire.decode(document, entry_bodies.EntryChange)
    command = change.command(call.path_id("entry"), call.if_match())
    return await submit(call, command, call.idempotency(document))


async def post_pending(call: Call, _asked: Asked) -> Response:
    """Post a pending entry, at its effective time unless another is given."""
    document = await call.optional_document()
    command = wire.decode(document, entry_bodies.EntryPost).command(call.path_id("entry"), call.if_match())
    return await submit(call, command, call.idempotency(document))


async def post_part(call: Call, _asked: Asked) -> Response:
    """Post a part of a pending entry; the answer is the posted one."""
    document = await call.document()
    command = wire.decode(document, entry_bodies.EntryPartialPost).command(call.path_id("entry"), call.if_match())
    return await submit(call, command, call.idempotency(document))


async def reverse_entry(call: Call, _asked: Asked) -> Response:
    """Post the mirror image of a posted entry, once; the answer is the mirror image."""
    document = await call.optional_document()
    command = wire.decode(document, entry_bodies.EntryReverse).command(call.path_id("entry"), call.if_match())
    done = await call.services.engine.submit(
        call.site, command, key=call.idempotency(document), diagnostics=call.trace.diagnostics()
    )
    return lists.committed(done, status=201, location=f"/v1/entries/{done.resource_id}")


async def list_versions(call: Call, asked: Asked) -> Response:
    """List what an entry was after each of its events, the newest first."""
    entry_id = call.path_id("entry")
    return lists.page(
        call, await call.services.engine.ask(call.site, impact.entry_versions, entry_id, asked.selection())
    )


async def get_impact(call: Call, _asked: Asked) -> Response:
    """Return what an entry has done to its accounts' balances."""
    return lists.one(await call.services.engine.ask(call.site, impact.entry_impact, call.path_id("entry")))


async def archive_entry(call: Call, _asked: Asked) -> Response:
    """Give a pending entry up; what it reserved is free."""
    document = await call.empty_document()
    command = ArchiveEntry(entry_id=call.path_id("entry"), if_match=call.if_match())
    return await submit(call, command, call.idempotency(document))


async def get_event_impact(call: Call, _asked: Asked) -> Response:
    """Return what an event did to balances: nothing, unless it moved an entry's lines."""
    return lists.one(await call.services.engine.ask(call.site, impact.event_impact, call.path_id("event")))
