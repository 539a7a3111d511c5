"""Event handlers and business events as tests write them: the JSON that a client sends."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from engine.definitions import Definition
from engine.event_commands import CreateEventHandler, PostBusinessEvent

TOP_UP: Final[dict[str, Any]] = {"field": "event.name", "operator": "equals", "value": "Top Up"}


def line(account: str, direction: str, amount: int | str, **more: Any) -> dict[str, Any]:
    """Return the template of a line."""
    return {"account_id": account, "direction": direction, "amount": amount, **more}


def lines(amount: int | str = "{{ event.amount }}") -> list[dict[str, Any]]:
    """Return the templates of a line each way between the accounts that the external ids `a` and `b` name."""
    return [line("external_id:a", "debit", amount), line("external_id:b", "credit", amount)]


def definition(**parts: Any) -> Definition:
    """Return what a handler is defined by, with the parts that a test gives instead of the plainest."""
    given = {"conditions": TOP_UP, "entries": [{"lines": lines()}], **parts}
    return msgspec.convert(given, Definition)


def metadata_query(**pairs: str) -> dict[str, Any]:
    """Return the variable that finds an account by metadata."""
    return {"type": "account", "query": {"field": "metadata", "operator": "contains", "value": pairs}}


def handler(name: str = "Top ups", **parts: Any) -> CreateEventHandler:
    """Return the command that makes a handler."""
    return CreateEventHandler(name=name, definition=definition(**parts))


def happened(name: str = "Top Up", /, **custom_data: Any) -> PostBusinessEvent:
    """Return the command that posts a business event with this custom data."""
    return PostBusinessEvent(name=name, custom_data=custom_data)
