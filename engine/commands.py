"""What the books can be asked to do, as values. Each says which rows it has to know before it can be decided. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from operator import eq, ge, gt, le, lt
from typing import Final, Literal

from msgspec import Struct

from engine.balances import Direction
from engine.category_commands import (
    ArchiveMonitor,
    CreateCategory,
    CreateMonitor,
    LinkCategory,
    PlaceAccount,
    UpdateCategory,
    UpdateMonitor,
)
from engine.chart_commands import CloseAccount as CloseAccount
from engine.chart_commands import CreateAccount as CreateAccount
from engine.chart_commands import CreateLedger as CreateLedger
from engine.chart_commands import UpdateAccount as UpdateAccount
from engine.chart_commands import UpdateLedger as UpdateLedger
from engine.event_commands import EventCommand, PostBusinessEvent
from engine.fx_commands import CreateFxRate
from engine.needs import Light, Needs
from engine.reference_commands import ChangeReference, CreateReference

LOCAL: Final = "local:"
"""How an item of a batch names an entry that an earlier item of it made."""

EXTERNAL: Final = "external_id:"
"""How a line names an account by its external id instead of its id."""


_OPERATORS: Final[dict[str, Callable[[int, int], bool]]] = {"gt": gt, "gte": ge, "lt": lt, "lte": le, "eq": eq}


class Condition(Struct, frozen=True, kw_only=True):
    """What a balance has to be once the entry is made: its amount in minor units against a value."""

    balance: Literal["available", "pending", "posted"]
    operator: Literal["gt", "gte", "lt", "lte", "eq"]
    value: int

    def holds(self, amount: int) -> bool:
        """Tell whether a balance of this amount meets it."""
        return _OPERATORS[self.operator](amount, self.value)


class LineDraft(Struct, frozen=True, kw_only=True):
    """A line to be posted: an account by id or `external_id:…`, a direction, an amount in minor units.

    `lock_version` is demanded of the account before the entry, `conditions` of its balances after it.
    """

    account: str
    direction: Direction
    amount: int
    metadata: dict[str, str]
    lock_version: int | None = None
    conditions: tuple[Condition, ...] = ()


class LinePart(Struct, frozen=True, kw_only=True):
    """So much of a line that exists, in minor units."""

    line_id: str
    amount: int


def _tell_accounts(needs: Needs, lines: Iterable[LineDraft]) -> None:
    for line in lines:
        if line.account.startswith(EXTERNAL):
            needs.account_external_ids.add(line.account[len(EXTERNAL) :])
        else:
            needs.accounts.add(line.account)


class PostEntry(Struct, frozen=True, kw_only=True):
    """Post a balanced entry, or reserve it as pending; `effective_at` is its own time where none is given."""

    lines: tuple[LineDraft, ...]
    status: Literal["posted", "pending"] = "posted"
    description: str | None = None
    effective_at: int | None = None
    external_id: str | None = None
    metadata: dict[str, str] = {}
    fx_rate_id: str | None = None
    held: bool = False
    """Whether it is the entry of a hold."""
    business_event_id: str | None = None

    def tell(self, needs: Needs) -> None:
        """Add the rows this command has to know."""
        _tell_accounts(needs, self.lines)
        if self.fx_rate_id is not None:
            needs.exchange(self.fx_rate_id)
        needs.periods |= self.effective_at is not None
        if self.external_id is not None:
            needs.entry_external_ids.add(self.external_id)

    @property
    def weight(self) -> int:
        """Return how many lines the command writes."""
        return len(self.lines)


class AcceptEntry(Struct, frozen=True, kw_only=True):
    """Accept an entry to be posted later, in the order of acceptance."""

    entry: PostEntry

    def tell(self, needs: Needs) -> None:
        """Add the rows this command has to know."""
        self.entry.tell(needs)

    @property
    def weight(self) -> int:
        """Return how many lines the command writes."""
        return self.entry.weight


class Validate(Struct, frozen=True, kw_only=True):
    """Find out what a command would come to, and leave everything as it is."""

    command: PostEntry | PostBatch | CreateHold | PostBusinessEvent

    def tell(self, needs: Needs) -> None:
        """Add the rows this command has to know."""
        self.command.tell(needs)

    @property
    def weight(self) -> int:
        """Return how many lines the command would write."""
        return self.command.weight


class PostBatch(Struct, frozen=True, kw_only=True):
    """Post several entries and deal with earlier ones: all of it or nothing, or each for itself.

    `names` are what later items call the entries of earlier ones by, one for each item where any has one.
    """

    entries: tuple[BatchItem, ...]
    names: tuple[str | None, ...] = ()
    mode: Literal["atomic", "independent"] = "atomic"

    def tell(self, needs: Needs) -> None:
        """Add the rows this command has to know."""
        for entry in self.entries:
            entry.tell(needs)

    @property
    def weight(self) -> int:
        """Return how many lines the command writes."""
        return sum(entry.weight for entry in self.entries)


class _OnEntry(Struct, frozen=True, kw_only=True):
    entry_id: str
    if_match: int | None = None

    def tell(self, needs: Needs) -> None:
        """Add the rows this command has to know."""
        if not self.entry_id.startswith(LOCAL):
            needs.entries.add(self.entry_id)
        needs.periods = True

    @property
    def weight(self) -> int:
        """Return how many lines the command writes, roughly."""
        return 4


class PostPending(_OnEntry, frozen=True, kw_only=True):
    """Post a pending entry, at its effective time unless another is given."""

    effective_at: int | None = None


class PostPart(_OnEntry, frozen=True, kw_only=True):
    """Post a part of a pending entry; the rest stays pending, or is released."""

    parts: tuple[LinePart, ...]
    release_rest: bool = False
    description: str | None = None
    effective_at: int | None = None
    metadata: dict[str, str] = {}


class ReverseEntry(_OnEntry, frozen=True, kw_only=True):
    """Post the mirror image of a posted entry, or of a part of it; now, unless another effective time is given."""

    parts: tuple[LinePart, ...] | None = None
    description: str | None = None
    effective_at: int | None = None
    external_id: str | None = None
    metadata: dict[str, str] = {}

    def tell(self, needs: Needs) -> None:
        """Add the rows this command has to know."""
        _OnEntry.tell(self, needs)
        if self.external_id is not None:
            needs.entry_external_ids.add(self.external_id)


class ArchiveEntry(_OnEntry, frozen=True, kw_only=True):
    """Give a pending entry up: what it reserved is free again."""


class UpdateEntry(_OnEntry, frozen=True, kw_only=True):
    """Change an entry's description or metadata, whatever its status; a pending one's lines and effective time too.

    None leaves a thing as it is.
    """

    description: str | None = None
    clear_description: bool = False
    metadata: dict[str, str] | None = None
    lines: tuple[LineDraft, ...] | None = None
    effective_at: int | None = None

    def tell(self, needs: Needs) -> None:
        """Add the rows this command has to know."""
        _OnEntry.tell(self, needs)
        needs.resource("acceptance", self.entry_id)
        _tell_accounts(needs, self.lines or ())

    @property
    def weight(self) -> int:
        """Return how many lines the command writes, roughly."""
        return 4 if self.lines is None else 2 * len(self.lines)


class CreateHold(Struct, frozen=True, kw_only=True):
    """Reserve funds until a time, a week from now unless given; the entry is one that is pending and held."""

    entry: PostEntry
    expires_at: int | None = None

    def tell(self, needs: Needs) -> None:
        """Add the rows this command has to know."""
        self.entry.tell(needs)

    @property
    def weight(self) -> int:
        """Return how many lines the command writes."""
        return self.entry.weight


class _OnHold(Struct, frozen=True, kw_only=True):
    hold_id: str
    if_match: int | None = None

    def tell(self, needs: Needs) -> None:
        """Add the rows this command has to know."""
        needs.resource("hold", self.hold_id)
        needs.entries.add(self.hold_id)
        needs.periods = True

    @property
    def weight(self) -> int:
        """Return how many lines the command writes, roughly."""
        return 4


class CaptureHold(_OnHold, frozen=True, kw_only=True):
    """Post what a hold reserves: all of it, one amount where it has two lines, or parts; `final` frees the rest."""

    amount: int | None = None
    parts: tuple[LinePart, ...] | None = None
    final: bool = False
    description: str | None = None
    effective_at: int | None = None
    metadata: dict[str, str] = {}


class ReleaseHold(_OnHold, frozen=True, kw_only=True):
    """Free what a hold reserves."""


class ExpireHold(_OnHold, frozen=True, kw_only=True):
    """Free what a hold reserves whose time is over: the books do it themselves, before anything else."""


class PostAccepted(Light, frozen=True, kw_only=True):
    """Post or reject an accepted entry on these accounts: the books do it themselves when they are tended."""

    entry_id: str
    accounts: tuple[str, ...] = ()

    def tell(self, needs: Needs) -> None:
        """Add the rows this command has to know."""
        needs.entries.add(self.entry_id)
        needs.accounts.update(self.accounts)
        needs.periods = True


class Tend(Light, frozen=True, kw_only=True):
    """Do what the books have to do of themselves by now."""


class RecordFact(Light, frozen=True, kw_only=True):
    """Put a fact that is not the ledger's own into the feed; the same key twice makes one event."""

    key: str
    type: str
    resource_type: str
    resource_id: str
    data: bytes

    def tell(self, needs: Needs) -> None:
        """Add the rows this command has to know."""
        needs.facts.add(self.key)


BatchItem = PostEntry | PostPending | ArchiveEntry | ReverseEntry
Command = (
    PostEntry
    | PostBatch
    | AcceptEntry
    | PostAccepted
    | Validate
    | PostPending
    | PostPart
    | ReverseEntry
    | ArchiveEntry
    | UpdateEntry
    | CreateHold
    | CaptureHold
    | ReleaseHold
    | ExpireHold
    | CreateLedger
    | UpdateLedger
    | CreateAccount
    | UpdateAccount
    | CloseAccount
    | Tend
    | CreateFxRate
    | RecordFact
    | CreateCategory
    | UpdateCategory
    | PlaceAccount
    | LinkCategory
    | CreateMonitor
    | UpdateMonitor
    | ArchiveMonitor
    | EventCommand
    | CreateReference
    | ChangeReference
)


def needs_of(commands: Iterable[Command]) -> Needs:
    """Return all that a batch of commands has to know."""
    needs = Needs()
    for command in commands:
        command.tell(needs)
    return needs
