"""What the books answer about business events and their handlers: part of the tree that `engine.errors` draws."""

from __future__ import annotations

from engine.errors import Refused, SeveralFaults


class TemplateInvalid(Refused):
    """A template or a path cannot be read."""

    def __init__(self, character: int, why: str) -> None:
        """Name the character, counted from 1, and what is wrong there."""
        super().__init__(f"At character {character}: {why}.")


class HandlerInvalid(SeveralFaults):
    """An event handler cannot be as it is defined; everything that is wrong is listed, each at its place."""


class NoHandlerMatches(Refused):
    """No active event handler matches the business event, or not the one that is tried with it."""

    def __init__(self, name: str, *, tried: str | None = None) -> None:
        """Name the business event, and the handler that is tried if one is."""
        whose = "No active event handler matches" if tried is None else f"The conditions of {tried!r} do not hold of"
        super().__init__(f"{whose} this {name!r} event.")


class SeveralHandlersMatch(Refused):
    """A business event is for exactly one event handler."""

    def __init__(self, name: str, handlers: tuple[tuple[str, str], ...]) -> None:
        """Name the business event, and each handler that matches by its id and name."""
        listed = ", ".join(f"{handler_id} ({title})" for handler_id, title in handlers[:10])
        super().__init__(f"{len(handlers)} active event handlers match this {name!r} event: {listed}.")
        self.handlers = handlers


class VariableUnresolved(Refused):
    """A handler's variable looks for exactly one account."""

    def __init__(self, variable: str, sought: str, found: int) -> None:
        """Name the variable, what its query came to, and whether there is no such account or more than one."""
        many = "There is no" if not found else "There is more than one"
        super().__init__(f"Variable {variable!r}: {many} account with {sought}.")
        self.variable = variable
        self.found = found


class ValueUnusable(Refused):
    """What a template needs is missing or of no use to it."""

    def __init__(
        self, what: str, why: str, *, needed_by: str = "", pointer: str = "", path: tuple[str, ...] = ()
    ) -> None:
        """Name the value, what is wrong with it, the path to it, and which part of the event handler needs it."""
        reader = f"; {needed_by} of the event handler needs it" if needed_by else ""
        super().__init__(f"{what} {why}{reader}.", pointer=pointer)
        self.what = what
        self.why = why
        self.needed_by = needed_by
        self.path = path


class DuplicateBusinessEvent(Refused):
    """A business event with this external id exists."""

    def __init__(self, external_id: str, event_id: str) -> None:
        """Name the external id and the event that has it."""
        super().__init__(f"Business event {event_id} has external_id {external_id!r}.", pointer="/external_id")
        self.event_id = event_id
