"""Business events and their handlers over HTTP."""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace
from starlette.responses import Response

from engine import event_queries, impact
from engine.commands import Validate
from engine.event_commands import SwitchEventHandler
from engine.event_errors import HandlerInvalid
from gateway import event_bodies, lists, tutorial_words, wire
from gateway.call import Call
from gateway.ledgers import created, submit
from gateway.problems import Problem, invalid
from gateway.query import Asked

_HANDLERS: Final = "/v1/event_handlers/"


async def create_event_handler(call: Call, _asked: Asked) -> Response:
    """Make an event handler, which is active from then on.

    The bodies of Modern Treasury's wallet tutorial are taken as they are; the answer is in this API's words.
    """
    document = await call.document()
    key = call.idempotency(document)
    if not tutorial_words.speaks_theirs(document.value):
        command = wire.decode(document, event_bodies.EventHandlerCreate).command()
        return await created(call, command, key, _HANDLERS)
    ours = wire.Document(tutorial_words.in_ours(document.value), document.canonical)
    try:
        return await created(call, wire.decode(ours, event_bodies.EventHandlerCreate).command(), key, _HANDLERS)
    except (Problem, HandlerInvalid) as wrong:
        faults = wrong.faults if isinstance(wrong, Problem) else wrong.faults()
        if not faults:
            raise
        raise invalid(
            [replace(each, pointer=tutorial_words.pointer_in_theirs(each.pointer)) for each in faults]
        ) from None


async def list_event_handlers(call: Call, asked: Asked) -> Response:
    """List event handlers, the newest first."""
    wanted = asked.selection("status", "name")
    return lists.page(call, await call.services.engine.ask(call.site, event_queries.list_event_handlers, wanted))


async def get_event_handler(call: Call, _asked: Asked) -> Response:
    """Return one event handler as it is now."""
    found = await call.services.engine.ask(call.site, event_queries.event_handler, call.path_id("event handler"))
    return lists.one(found, found.value.lock_version)


async def list_event_handler_versions(call: Call, asked: Asked) -> Response:
    """List what an event handler was, each version as it was made, the newest first."""
    handler_id = call.path_id("event handler")
    ask = call.services.engine.ask
    return lists.page(call, await ask(call.site, event_queries.event_handler_versions, handler_id, asked.selection()))


async def change_event_handler(call: Call, _asked: Asked) -> Response:
    """Change an event handler, which makes a version of it."""
    document = await call.document()
    change = wire.decode(document, event_bodies.EventHandlerChange)
    command = change.command(call.path_id("event handler"), call.if_match())
    return await submit(call, command, call.idempotency(document))


async def archive_event_handler(call: Call, _asked: Asked) -> Response:
    """Let an event handler match no more events."""
    document = await call.empty_document()
    handler_id = call.path_id("event handler")
    command = SwitchEventHandler(handler_id=handler_id, status="archived", if_match=call.if_match())
    return await submit(call, command, call.idempotency(document))


async def activate_event_handler(call: Call, _asked: Asked) -> Response:
    """Let an archived event handler match events again."""
    document = await call.empty_document()
    handler_id = call.path_id("event handler")
    command = SwitchEventHandler(handler_id=handler_id, status="active", if_match=call.if_match())
    return await submit(call, command, call.idempotency(document))


async def validate_event_handler(call: Call, _asked: Asked) -> Response:
    """Say what an event handler would be, and what it alone would make of a sample event; nothing is stored."""
    document = await call.document()
    command = wire.decode(document, event_bodies.EventHandlerTry).command()
    return await submit(call, command, None)


async def post_business_event(call: Call, _asked: Asked) -> Response:
    """Let the one active handler that matches turn a business event into entries, all of them or none."""
    document = await call.document()
    event = wire.decode(document, event_bodies.BusinessEventCreate)
    key = call.idempotency(document, event.idempotency_key)
    return await created(call, event.event(), key, "/v1/business_events/")


async def list_business_events(call: Call, asked: Asked) -> Response:
    """List business events with their entries as they stand, the newest first."""
    wanted = asked.selection("name", "external_id", "event_handler_id")
    return lists.page(call, await call.services.engine.ask(call.site, event_queries.list_business_events, wanted))


async def get_business_event(call: Call, _asked: Asked) -> Response:
    """Return one business event with its entries as they stand."""
    found = await call.services.engine.ask(call.site, event_queries.business_event, call.path_id("business event"))
    return lists.one(found)


async def get_business_event_impact(call: Call, _asked: Asked) -> Response:
    """Say what the entries of a business event have done to balances until now."""
    event_id = call.path_id("business event")
    return lists.one(await call.services.engine.ask(call.site, impact.business_event_impact, event_id))


async def validate_business_event(call: Call, _asked: Asked) -> Response:
    """Say what a business event would come to, resulting balances included; nothing is stored."""
    document = await call.document()
    command = Validate(command=wire.decode(document, event_bodies.BusinessEventDraft).event())
    return await submit(call, command, None)
