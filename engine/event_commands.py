"""What can be asked of business events and their handlers, as values. Pure."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import UNSET, Struct, UnsetType

from engine.definitions import Definition
from engine.needs import Needs

HANDLER: str = "event_handler"
BUSINESS_EVENT: str = "business_event"


class CreateEventHandler(Struct, frozen=True, kw_only=True):
    """Make an event handler; it is active from then on."""

    name: str
    definition: Definition
    description: str | None = None
    metadata: dict[str, str] = {}

    def tell(self, needs: Needs) -> None:
        """Add the rows this command has to know."""
        if self.definition.ledger_id is not None:
            needs.ledgers.add(self.definition.ledger_id)

    @property
    def weight(self) -> int:
        """Return how many lines the command writes, roughly."""
        return 4


class UpdateEventHandler(Struct, frozen=True, kw_only=True):
    """Change an event handler, which makes a version of it; what is left UNSET stays.

    `definition` has the members of a Definition that change.
    """

    handler_id: str
    name: str | UnsetType = UNSET
    description: str | UnsetType | None = UNSET
    metadata: dict[str, str] | UnsetType = UNSET
    definition: dict[str, Any] = {}
    if_match: int | None = None

    def tell(self, needs: Needs) -> None:
        """Add the rows this command has to know."""
        needs.resource(HANDLER, self.handler_id)
        if self.definition.get("ledger_id") is not None:
            needs.ledgers.add(self.definition["ledger_id"])

    @property
    def weight(self) -> int:
        """Return how many lines the command writes, roughly."""
        return 4


class SwitchEventHandler(Struct, frozen=True, kw_only=True):
    """Let an event handler match no more events, or match them again."""

    handler_id: str
    status: Literal["active", "archived"]
    if_match: int | None = None

    def tell(self, needs: Needs) -> None:
        """Add the rows this command has to know."""
        needs.resource(HANDLER, self.handler_id)

    @property
    def weight(self) -> int:
        """Return how many lines the command writes, roughly."""
        return 4


class PostBusinessEvent(Struct, frozen=True, kw_only=True):
    """Let the one active handler that matches turn a business event into its entries, all of them or none.

    `custom_data` is JSON as it will be stored.
    """

    name: str
    custom_data: dict[str, Any] = {}
    description: str | None = None
    effective_at: int | None = None
    external_id: str | None = None
    metadata: dict[str, str] = {}

    def tell(self, needs: Needs) -> None:
        """Add the rows this command has to know first; what its handler names is asked for when that is known."""
        needs.handled_names.add(self.name)
        if self.external_id is not None:
            needs.resource(BUSINESS_EVENT, self.external_id, "external_id")

    @property
    def weight(self) -> int:
        """Return how many lines the command writes, roughly: its handler decides."""
        return 16


class TryEventHandler(Struct, frozen=True, kw_only=True):
    """Say what a handler would be, and what a sample event would come to if it were the only one; change nothing."""

    handler: CreateEventHandler
    event: PostBusinessEvent | None = None

    def tell(self, needs: Needs) -> None:
        """Add the rows this command has to know."""
        self.handler.tell(needs)
        if self.event is not None:
            self.event.tell(needs)

    @property
    def weight(self) -> int:
        """Return how many lines the command would write, roughly."""
        return self.handler.weight + (0 if self.event is None else self.event.weight)


HandlerCommand = CreateEventHandler | UpdateEventHandler | SwitchEventHandler
StagedCommand = PostBusinessEvent | TryEventHandler
"""The commands whose rows are read in steps: what a handler names is known when it was rendered."""

EventCommand = HandlerCommand | StagedCommand
