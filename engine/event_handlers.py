"""The rules of event handlers: what a definition means, whether it can be, making and changing handlers. Pure.

A definition is read once, when the handler is made, and every template in it with it; what is wrong with it is told then,
all of it, and not when the first event comes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, Final, cast

import msgspec
from msgspec import UNSET, Struct, UnsetType

from engine import resources
from engine.books import Books, Decision
from engine.conditions import INVALID, check, demanded_name
from engine.definitions import (
    BALANCES,
    DIRECTIONS,
    LINES_MAX,
    OPERATORS,
    STATUSES,
    AccountQuery,
    Balance,
    Definition,
    EntryTemplate,
    EventCondition,
    LineTemplate,
    Operator,
    Variable,
)
from engine.errors import Fault, NotFound
from engine.event_commands import HANDLER, CreateEventHandler, HandlerCommand, SwitchEventHandler, UpdateEventHandler
from engine.event_errors import HandlerInvalid, TemplateInvalid
from engine.event_shapes import definition_of, event_handler_of
from engine.expressions import Path, Rounding
from engine.occasion import Occasion
from engine.rows import ResourceRow
from engine.shapes import encode
from engine.templates import Template, parse, parse_amount

DEFINITION_BYTES_MAX: Final = 65_536
NODES_MAX: Final = 2_000
"""How many parts the expressions of one handler may have together."""

EVENT_ROOTS: Final = ("event", "ledgerable_event")
VARIABLES_ROOT: Final = "variables"
ACCOUNT_FIELDS: Final = (
    "id", "ledger_id", "name", "description", "type", "normal_balance", "currency", "currency_exponent", "code", "external_id",
)  # fmt: skip


class Query(Struct, frozen=True, kw_only=True):
    """How a variable finds its account: by one text, or by metadata."""

    field: str
    text: Template
    pairs: tuple[tuple[str, Template], ...] = ()


class Demand(Struct, frozen=True, kw_only=True):
    """What a line demands of a balance of its account after the entry, with the template of the value."""

    balance: Balance
    operator: Operator
    value: Template


class LinePlan(Struct, frozen=True, kw_only=True):
    """The templates of one line."""

    account: Template
    direction: Template
    amount: Template
    metadata: tuple[tuple[str, Template], ...]
    lock_version: Template | None
    demands: tuple[Demand, ...]


class EntryPlan(Struct, frozen=True, kw_only=True):
    """The templates of one entry; those that are None are not there."""

    lines: tuple[LinePlan, ...]
    status: Template
    description: Template | None
    effective_at: Template | None
    external_id: Template | None
    fx_rate_id: Template | None
    metadata: tuple[tuple[str, Template], ...]


class Handler(Struct, frozen=True, kw_only=True):
    """A definition that was read."""

    conditions: EventCondition
    accounts: Mapping[str, Query]
    amounts: Mapping[str, Template]
    entries: tuple[EntryPlan, ...]
    rounding: Rounding
    ledger_id: str | None


@lru_cache(maxsize=256)
def compiled(definition: str) -> Handler:
    """Return a stored definition read; raises HandlerInvalid with everything that is wrong."""
    reader = _Reader(definition_of(definition))
    handler = reader.handler()
    faults = reader.faults
    if len(definition) > DEFINITION_BYTES_MAX:
        faults.append(_fault("", f"A handler's definition has at most {DEFINITION_BYTES_MAX} characters of JSON."))
    if reader.nodes > NODES_MAX:
        faults.append(
            _fault("", f"The expressions have {reader.nodes} parts together; at most {NODES_MAX} are allowed.")
        )
    if faults:
        raise HandlerInvalid(faults)
    return handler


def decide_handler(command: HandlerCommand, books: Books, occasion: Occasion) -> Decision:
    """Decide what concerns an event handler."""
    match command:
        case CreateEventHandler():
            return create_event_handler(command, books, occasion)
        case UpdateEventHandler():
            return update_event_handler(command, books, occasion)
        case SwitchEventHandler():
            return switch_event_handler(command, books, occasion)


def create_event_handler(command: CreateEventHandler, books: Books, occasion: Occasion) -> Decision:
    """Decide a new event handler, which is active."""
    definition = encode(command.definition).decode()
    row: ResourceRow = {
        "site_id": occasion.site_id,
        "id": occasion.draw(),
        "name": command.name,
        "description": command.description,
        "status": "active",
        **_columns(definition, command.definition, books),
        "metadata": command.metadata,
        "lock_version": 1,
        "created_at": occasion.now_us,
        "updated_at": occasion.now_us,
    }
    return resources.decided(HANDLER, row, encode(event_handler_of(row)), "created", occasion)


def update_event_handler(command: UpdateEventHandler, books: Books, occasion: Occasion) -> Decision:
    """Decide a change of an event handler: a version that events from now on are handled by."""
    row = resources.present(HANDLER, command.handler_id, command.if_match, books)
    given = {"name": command.name, "description": command.description, "metadata": command.metadata}
    changes: dict[str, Any] = {name: value for name, value in given.items() if value is not UNSET}
    if command.definition:
        definition = msgspec.structs.replace(definition_of(row["definition"]), **command.definition)
        changes |= _columns(encode(definition).decode(), definition, books)
    return _changed(row, changes, occasion)


def switch_event_handler(command: SwitchEventHandler, books: Books, occasion: Occasion) -> Decision:
    """Decide that a handler matches no more events, or does again."""
    row = resources.present(HANDLER, command.handler_id, command.if_match, books)
    return _changed(row, {"status": command.status}, occasion)


def _columns(text: str, definition: Definition, books: Books) -> dict[str, Any]:
    compiled(text)
    if definition.ledger_id is not None and books.ledger(definition.ledger_id) is None:
        raise NotFound("ledger", definition.ledger_id, pointer="/ledger_id")
    return {"definition": text, "event_name": demanded_name(definition.conditions) or ""}


def _changed(row: ResourceRow, changes: dict[str, Any], occasion: Occasion) -> Decision:
    changed, _ = resources.changed(row, changes, occasion)
    after = event_handler_of(changed)
    if changed is row:
        return Decision(answer=encode(after), resource_id=row["id"], lock_version=row["lock_version"], events=[])
    before = event_handler_of(row)
    previous = {
        name: getattr(before, name)
        for name in after.__struct_fields__
        if name not in {"lock_version", "updated_at"} and getattr(before, name) != getattr(after, name)
    }
    return resources.decided(HANDLER, changed, encode(after), "updated", occasion, encode(previous))


class _Reader:
    """Reads the templates of a definition and gathers what is wrong with them."""

    def __init__(self, definition: Definition) -> None:
        self._definition = definition
        self.faults: list[Fault] = []
        self.nodes = 0

    def handler(self) -> Handler:
        """Return what could be read; where there are faults it is of no use."""
        given = self._definition
        self.faults += check(given.conditions, self._event_path)
        accounts = dict(self._queries())
        amounts = dict(self._amounts())
        self._check_cycles(amounts)
        if sum(len(entry.lines) for entry in given.entries) > LINES_MAX:
            self.faults.append(_fault("/entries", f"The entries of a handler have at most {LINES_MAX} lines together."))
        return Handler(
            conditions=given.conditions,
            accounts=accounts,
            amounts=amounts,
            entries=tuple(self._entry(each, f"/entries/{index}") for index, each in enumerate(given.entries)),
            rounding=given.rounding,
            ledger_id=given.ledger_id,
        )

    def _queries(self) -> Iterator[tuple[str, Query]]:
        for name, variable in self._definition.variables.items():
            pointer = f"/variables/{name}"
            if not self._is_whole(variable, pointer) or variable.type != "account":
                continue
            query = cast("AccountQuery", variable.query)
            where = f"{pointer}/query/value"
            by_metadata = query.field == "metadata"
            if query.operator != ("contains" if by_metadata else "equals"):
                detail = "An account is found by 'id' or 'external_id' that 'equals', or by 'metadata' that 'contains'."
                self.faults.append(_fault(f"{pointer}/query/operator", detail))
            elif isinstance(query.value, dict) != by_metadata or not query.value:
                detail = "'metadata' takes an object with at least one pair, 'id' and 'external_id' take text."
                self.faults.append(_fault(where, detail))
            elif isinstance(query.value, dict):
                pairs = self._pairs(query.value, where, only_event=True)
                yield name, Query(field=query.field, text=Template(()), pairs=pairs)
            else:
                yield name, Query(field=query.field, text=self._text(query.value, where, only_event=True))

    def _amounts(self) -> Iterator[tuple[str, Template]]:
        for name, variable in self._definition.variables.items():
            if variable.type == "amount" and variable.value is not UNSET:
                yield name, self._amount(variable.value, f"/variables/{name}/value")

    def _is_whole(self, variable: Variable, pointer: str) -> bool:
        """Tell whether a variable has what its type takes, and nothing else."""
        needed, other = ("query", "value") if variable.type == "account" else ("value", "query")
        if getattr(variable, needed) is UNSET or getattr(variable, other) is not UNSET:
            detail = f"A variable of type {variable.type!r} has a {needed!r} and no {other!r}."
            self.faults.append(_fault(pointer, detail))
            return False
        return True

    def _check_cycles(self, amounts: Mapping[str, Template]) -> None:
        """Check that no amount is worked out from itself, by whatever way."""
        uses = {
            name: {used for path in template.paths() if (used := variable_of(path)) in amounts}
            for name, template in amounts.items()
        }
        while True:
            ready = [name for name, used in uses.items() if not used & uses.keys()]
            if not ready:
                break
            for name in ready:
                del uses[name]
        for name in sorted(uses):
            self.faults.append(_fault(f"/variables/{name}/value", f"The amount {name!r} is worked out from itself."))

    def _entry(self, entry: EntryTemplate, pointer: str) -> EntryPlan:
        def optional(name: str) -> Template | None:
            text = getattr(entry, name)
            return None if text is None else self._text(text, f"{pointer}/{name}")

        return EntryPlan(
            lines=tuple(self._line(each, f"{pointer}/lines/{index}") for index, each in enumerate(entry.lines)),
            status=self._choice(entry.status, f"{pointer}/status", STATUSES),
            description=optional("description"),
            effective_at=optional("effective_at"),
            external_id=optional("external_id"),
            fx_rate_id=optional("fx_rate_id"),
            metadata=self._pairs(entry.metadata, f"{pointer}/metadata"),
        )

    def _line(self, line: LineTemplate, pointer: str) -> LinePlan:
        return LinePlan(
            account=self._text(line.account_id, f"{pointer}/account_id"),
            direction=self._choice(line.direction, f"{pointer}/direction", DIRECTIONS),
            amount=self._amount(line.amount, f"{pointer}/amount"),
            metadata=self._pairs(line.metadata, f"{pointer}/metadata"),
            lock_version=self._number(line.lock_version, f"{pointer}/lock_version"),
            demands=tuple(self._demands(line, pointer)),
        )

    def _demands(self, line: LineTemplate, pointer: str) -> Iterator[Demand]:
        for balance in BALANCES:
            wanted = getattr(line, f"{balance}_balance_amount") or None
            for operator in OPERATORS if wanted is not None else ():
                where = f"{pointer}/{balance}_balance_amount/{operator}"
                value = self._number(getattr(wanted, operator), where, signed=True)
                if value is not None:
                    yield Demand(balance=balance, operator=operator, value=value)

    def _number(self, number: int | str | UnsetType | None, pointer: str, *, signed: bool = False) -> Template | None:
        return None if number is None or number is UNSET else self._amount(number, pointer, signed=signed)

    def _pairs(
        self, pairs: Mapping[str, str], pointer: str, *, only_event: bool = False
    ) -> tuple[tuple[str, Template], ...]:
        return tuple(
            (key, self._text(value, f"{pointer}/{_escape(key)}", only_event=only_event)) for key, value in pairs.items()
        )

    def _choice(self, text: str, pointer: str, choices: tuple[str, ...]) -> Template:
        template = self._text(text, pointer)
        literal = template.literal
        if literal is not None and literal not in choices and not self._is_faulty(pointer):
            self.faults.append(
                _fault(pointer, f"One of {', '.join(choices)}, or a template that comes to one of them.")
            )
        return template

    def _text(self, text: str, pointer: str, *, only_event: bool = False) -> Template:
        try:
            return self._known(parse(text), pointer, only_event=only_event)
        except TemplateInvalid as invalid:
            self.faults.append(_fault(pointer, invalid.detail))
            return Template(())

    def _amount(self, amount: int | str, pointer: str, *, signed: bool = False) -> Template:
        try:
            return self._known(parse_amount(str(amount), signed=signed), pointer, only_event=False)
        except TemplateInvalid as invalid:
            self.faults.append(_fault(pointer, invalid.detail))
            return Template(("0",))

    def _known(self, template: Template, pointer: str, *, only_event: bool) -> Template:
        self.nodes += template.nodes
        for path in template.paths():
            wrong = self._event_path(path) if only_event else self._path(path)
            if wrong is not None:
                self.faults.append(_fault(pointer, wrong))
        return template

    def _event_path(self, path: Path) -> str | None:
        if path.segments[0] not in EVENT_ROOTS:
            return f"{path.text!r} is no path into the event: here a path begins with 'event.'."
        return f"{path.text!r} is the whole event: name a field of it." if len(path.segments) == 1 else None

    def _path(self, path: Path) -> str | None:
        if path.segments[0] in EVENT_ROOTS:
            return self._event_path(path)
        name = variable_of(path)
        variable = None if name is None else self._definition.variables.get(name)
        if name is None or variable is None:
            named = ", ".join(self._definition.variables) or "none"
            return f"There is no {path.text!r}: paths begin with 'event.' or name a variable ({named})."
        below = path.segments[path.segments.index(name) + 1 :]
        if variable.type == "amount":
            return f"{path.text!r}: {name!r} is an amount and has no fields." if below else None
        if (len(below) == 1 and below[0] in ACCOUNT_FIELDS) or (len(below) == 2 and below[0] == "metadata"):
            return None
        return f"{path.text!r}: of an account there are {', '.join(ACCOUNT_FIELDS)} and metadata.KEY."

    def _is_faulty(self, pointer: str) -> bool:
        return any(each.pointer == pointer for each in self.faults)


def variable_of(path: Path) -> str | None:
    """Return the name of the variable that a path begins with, if it may be one: `fee` and `variables.fee` are the same."""
    if path.segments[0] != VARIABLES_ROOT:
        return path.segments[0]
    return path.segments[1] if len(path.segments) > 1 else None


def _fault(pointer: str, detail: str) -> Fault:
    return Fault(code=INVALID, pointer=pointer, detail=detail)


def _escape(token: str) -> str:
    return token.replace("~", "~0").replace("/", "~1")
