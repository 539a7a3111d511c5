"""The rules of business events: exactly one handler matches, it is rendered, its entries stand or fall together. Pure.

What a handler names is known only when it was rendered, so the rows it touches are read in steps: the handlers, the
accounts that its variables look for, the accounts of the lines. Where a step finds that rows were not read, it raises
`Unread`; whoever decides reads them and decides again.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, cast

from msgspec import Raw, Struct
from msgspec.structs import replace

from engine import entries as entry_rules
from engine import rendering
from engine.books import Books, Decision
from engine.commands import EXTERNAL, PostEntry
from engine.conditions import holds
from engine.errors import Refused, SeveralLedgers
from engine.event_commands import (
    BUSINESS_EVENT,
    HANDLER,
    PostBusinessEvent,
    StagedCommand,
    TryEventHandler,
)
from engine.event_errors import (
    DuplicateBusinessEvent,
    NoHandlerMatches,
    SeveralHandlersMatch,
    ValueUnusable,
    VariableUnresolved,
)
from engine.event_handlers import Handler, Query, compiled, create_event_handler
from engine.event_shapes import business_event_of, event_handler_of
from engine.events import BatchPlace, EventDraft
from engine.ids import is_id
from engine.journal import put_in_place
from engine.needs import AccountsWith, Needs
from engine.occasion import Occasion
from engine.rendering import EXTERNAL_ID_MAX, View
from engine.rows import AccountRow, ResourceRow
from engine.shapes import Entry, encode, entry_of

_CANDIDATES_MAX: Final = 1_024


class Unread(Exception):
    """A decision needs rows that were not read."""

    def __init__(self, needs: Needs) -> None:
        """Take what has to be read."""
        super().__init__("not read yet")
        self.needs = needs


def foresee(command: StagedCommand, books: Books) -> Needs:
    """Return the rows that deciding the command as things stand would miss; nothing where it would miss none."""
    try:
        match command:
            case PostBusinessEvent():
                _plan(command, compiled(_the_handler(command, books)["definition"]), books)
            case TryEventHandler(event=PostBusinessEvent() as event):
                _plan(event, compiled(encode(command.handler.definition).decode()), books)
            case _:
                pass
    except Unread as unread:
        return unread.needs
    except Refused:
        pass
    return Needs()


def decide_event(command: StagedCommand, books: Books, occasion: Occasion) -> Decision:
    """Decide a business event, or what one or a handler would come to; raises Unread where rows were not read."""
    match command:
        case PostBusinessEvent():
            return post_business_event(command, books, occasion)
        case TryEventHandler():
            return try_event_handler(command, books, occasion)


def post_business_event(command: PostBusinessEvent, books: Books, occasion: Occasion) -> Decision:
    """Decide a business event and its entries; raises Unread, or what refuses it or one of its entries."""
    return _posted(command, _the_handler(command, books), books, occasion)


def try_event_handler(command: TryEventHandler, books: Books, occasion: Occasion) -> Decision:
    """Decide a handler, and a sample event as if it were the only one, and keep nothing but the answer."""
    try:
        [(_, row)] = create_event_handler(command.handler, books, occasion).resources
    except Refused as refused:
        refused.within("/event_handler")
        raise
    sample = None
    if command.event is not None:
        try:
            if not holds(compiled(row["definition"]).conditions, View(command.event).lookup):
                raise NoHandlerMatches(command.event.name, tried=row["name"])
            sample = Raw(_posted(command.event, row, books, occasion).answer)
        except Refused as refused:
            refused.within("/business_event")
            raise
    return _answer_only(encode({"event_handler": event_handler_of(row), "business_event": sample}))


def _answer_only(answer: bytes) -> Decision:
    return Decision(answer=answer, resource_id=None, lock_version=None, events=[])


def _the_handler(command: PostBusinessEvent, books: Books) -> ResourceRow:
    """Return the one active handler that matches."""
    _check_read(Needs(handled_names={command.name}), books)
    view = View(command)
    found = [
        row
        for row in books.every(HANDLER)
        if row["status"] == "active"
        and row["event_name"] in {"", command.name}
        and holds(compiled(row["definition"]).conditions, view.lookup)
    ]
    if not found:
        raise NoHandlerMatches(command.name)
    if len(found) > 1:
        raise SeveralHandlersMatch(command.name, tuple(sorted((row["id"], row["name"]) for row in found)))
    return found[0]


def _posted(command: PostBusinessEvent, handler: ResourceRow, books: Books, occasion: Occasion) -> Decision:
    if command.external_id is not None:
        holder = books.resource_named(BUSINESS_EVENT, "external_id", command.external_id)
        if holder is not None:
            raise DuplicateBusinessEvent(command.external_id, holder["id"])
    planned = _plan(command, compiled(handler["definition"]), books)
    event_id = occasion.draw()
    layer = Books(books)
    merged = Decision(answer=b"", resource_id=event_id, lock_version=1, events=[])
    batch_id = occasion.draw() if len(planned) > 1 else ""
    made: list[Entry] = []
    for index, entry in enumerate(planned):
        place = BatchPlace(batch_id, index + 1, len(planned)) if batch_id else None
        try:
            decision = entry_rules.post_entry(replace(entry, business_event_id=event_id), layer, occasion)
        except Refused as refused:
            refused.within(f"/entries/{index}")
            raise
        if place is not None:
            put_in_place(decision, place)
        layer.apply(decision)
        merged.absorb(decision)
        made.append(entry_of(decision.entries[0], decision.lines))
    row: ResourceRow = {
        "site_id": occasion.site_id,
        "id": event_id,
        "name": command.name,
        "description": command.description,
        "custom_data": encode(command.custom_data).decode(),
        "external_id": command.external_id,
        "metadata": command.metadata,
        "effective_at": occasion.now_us if command.effective_at is None else command.effective_at,
        "event_handler_id": handler["id"],
        "event_handler_version": handler["lock_version"],
        "entries": [entry.id for entry in made],
        "lock_version": 1,
        "created_at": occasion.now_us,
        "updated_at": occasion.now_us,
    }
    merged.answer = encode(business_event_of(row, made))
    happened = EventDraft(
        id=occasion.draw(),
        type="business_event.created",
        resource_type=BUSINESS_EVENT,
        resource_id=event_id,
        data=merged.answer,
    )
    merged.events.insert(0, happened)
    merged.resources.append((BUSINESS_EVENT, row))
    return merged


def _plan(command: PostBusinessEvent, handler: Handler, books: Books) -> tuple[PostEntry, ...]:
    """Return the entries that the handler makes of the event; raises Unread where their accounts were not read."""
    view = View(command)
    _resolve(view, handler, books)
    planned = tuple(
        entry
        for index, plan in enumerate(handler.entries)
        if (entry := rendering.entry_of(plan, f"/entries/{index}", view, handler)) is not None
    )
    if not planned:
        raise ValueUnusable("/entries", "have no line with an amount other than zero")
    needs = Needs()
    for entry in planned:
        entry.tell(needs)
    _check_read(needs, books)
    _check_read(Needs(exchanging=_exchanging(planned, books)), books)
    for index, entry in enumerate(planned):
        _check_ledger(entry, f"/entries/{index}", handler, books)
    return planned


def _exchanging(planned: Iterable[PostEntry], books: Books) -> set[str]:
    """Return the ledgers whose own accounts an exchange may pass through."""
    lines = [line for entry in planned if entry.fx_rate_id is not None for line in entry.lines]
    accounts = [account for line in lines if (account := _account_at(line.account, books)) is not None]
    return {account["ledger_id"] for account in accounts}


def _check_read(needs: Needs, books: Books) -> None:
    missing = books.unread(needs)
    if missing:
        # What is read now brings along what an exchange between these accounts would pass through.
        missing.purposeful = needs.purposeful
        raise Unread(missing)


def _check_ledger(entry: PostEntry, place: str, handler: Handler, books: Books) -> None:
    """Check that the accounts are in the handler's ledger, where it names one."""
    if handler.ledger_id is None:
        return
    for position, line in enumerate(entry.lines):
        account = _account_at(line.account, books)
        if account is not None and account["ledger_id"] != handler.ledger_id:
            refused = SeveralLedgers(position, handler.ledger_id, account["ledger_id"])
            refused.within(place)
            raise refused


def _account_at(reference: str, books: Books) -> AccountRow | None:
    named = reference.startswith(EXTERNAL)
    account_id = books.account_named(reference[len(EXTERNAL) :]) if named else reference
    return None if account_id is None else books.account(account_id)


class _Sought(Struct, frozen=True, kw_only=True):
    """What a variable's query came to: how it is said to a person, and what to ask for."""

    words: str
    reference: str | None = None
    question: AccountsWith | None = None


def _resolve(view: View, handler: Handler, books: Books) -> None:
    """Find the account of every variable; raises Unread, or VariableUnresolved where it is not exactly one."""
    sought = {name: _sought(name, query, view, handler) for name, query in handler.accounts.items()}
    needs = Needs()
    for each in sought.values():
        if each.question is not None:
            needs.accounts_with.add(each.question)
        elif each.reference is not None and each.reference.startswith(EXTERNAL):
            needs.account_external_ids.add(each.reference[len(EXTERNAL) :])
        elif each.reference is not None:
            needs.accounts.add(each.reference)
    _check_read(needs, books)
    for name, each in sought.items():
        if each.question is not None:
            view.accounts[name] = _only(name, each, each.question, books)
            continue
        account = None if each.reference is None else _account_at(each.reference, books)
        if account is None or handler.ledger_id not in {None, account["ledger_id"]}:
            raise VariableUnresolved(name, each.words, 0)
        view.accounts[name] = account


def _sought(name: str, query: Query, view: View, handler: Handler) -> _Sought:
    place = f"/variables/{name}/query/value"
    inside = "" if handler.ledger_id is None else f" in ledger {handler.ledger_id}"
    if query.field == "metadata":
        pairs = tuple(
            sorted((key, rendering.text_of(each, f"{place}/{key}", view, handler)) for key, each in query.pairs)
        )
        listed = ", ".join(f"{key} = {value!r}" for key, value in pairs)
        question = AccountsWith(pairs=pairs, ledger_id=handler.ledger_id)
        return _Sought(words=f"metadata {listed}{inside} that is open", question=question)
    text = rendering.text_of(query.text, place, view, handler)
    words = f"{query.field} {text[:EXTERNAL_ID_MAX]!r}{inside}"
    if query.field == "id":
        return _Sought(words=words, reference=text if is_id(text) else None)
    return _Sought(words=words, reference=f"{EXTERNAL}{text}" if 0 < len(text) <= EXTERNAL_ID_MAX else None)


def _only(name: str, sought: _Sought, question: AccountsWith, books: Books) -> AccountRow:
    """Return the one open account that has the metadata, as it stands after the commands before this one.

    The database tells so many at most; where changes of this batch leave one of as many, more of them are asked for.
    """
    found = books.accounts_with(question)
    if len(found) < 2 and len(books.told(question)) == question.limit and question.limit < _CANDIDATES_MAX:
        further = replace(question, limit=question.limit * 8)
        _check_read(Needs(accounts_with={further}), books)
        return _only(name, sought, further, books)
    if len(found) != 1:
        raise VariableUnresolved(name, sought.words, len(found))
    _check_read(Needs(accounts=set(found)), books)
    return cast("AccountRow", books.account(found[0]))
