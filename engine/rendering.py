"""Rendering a handler's templates: from a business event and the accounts of the variables to entries to be posted. Pure.

Whatever comes out is checked as if a client had sent it; what is of no use is told with the template that needed it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, Final, Literal, cast

from engine.commands import EXTERNAL, Condition, LineDraft, PostEntry
from engine.definitions import DIRECTIONS, STATUSES
from engine.event_commands import PostBusinessEvent
from engine.event_errors import ValueUnusable
from engine.event_handlers import EVENT_ROOTS, EntryPlan, Handler, LinePlan, variable_of
from engine.expressions import Path
from engine.ids import is_id
from engine.money import AMOUNT_MAX, format_instant, parse_instant
from engine.rows import AccountRow
from engine.templates import Template, render, render_amount

DESCRIPTION_MAX: Final = 1_000
EXTERNAL_ID_MAX: Final = 180
METADATA_VALUE_MAX: Final = 500
_SHOWN_MAX: Final = 100
_REFERENCE: Final = re.compile(rf"{re.escape(EXTERNAL)}(?s:.){{1,{EXTERNAL_ID_MAX}}}\Z")


class View:
    """What paths lead to: the event as it was sent, and the variables of a handler once their accounts are known."""

    def __init__(self, command: PostBusinessEvent) -> None:
        """Show the event alone: enough for conditions and for finding accounts."""
        self.effective_at = at = command.effective_at
        self._event: dict[str, Any] = {
            "name": command.name,
            "description": command.description,
            "external_id": command.external_id,
            "effective_at": None if at is None else format_instant(at),
            "metadata": command.metadata,
            "custom_data": command.custom_data,
        }
        self.accounts: dict[str, AccountRow] = {}
        self._amounts: dict[str, int] = {}

    def lookup(self, path: Path) -> Any:
        """Return what a path into the event leads to; raises ValueUnusable."""
        return _walk(path, self._event, self._inside(path.segments), self.pointer_of(path.segments))

    def pointer_of(self, segments: Sequence[str]) -> str:
        """Return where in the request a path leads to; nothing where it leads into a variable."""
        if not segments or segments[0] not in EVENT_ROOTS:
            return ""
        return "".join(f"/{_escape(token)}" for token in self._inside(segments))

    def _inside(self, segments: Sequence[str]) -> Sequence[str]:
        # What is no field of the event itself is one of its custom data.
        return segments[1:] if segments[1] in self._event else ("custom_data", *segments[1:])

    def of(self, handler: Handler, path: Path) -> Any:
        """Return what a path of a handler's leads to, into the event or a variable; raises ValueUnusable."""
        if path.segments[0] in EVENT_ROOTS:
            return self.lookup(path)
        name = cast("str", variable_of(path))
        if name in handler.amounts:
            return self._amount(handler, name)
        fields = path.segments[path.segments.index(name) + 1 :]
        return _walk(path, self.accounts[name], fields, "")

    def _amount(self, handler: Handler, name: str) -> int:
        """Return an amount of the handler's: worked out and rounded once, when it is first asked for."""
        if name not in self._amounts:
            self._amounts[name] = amount_of(handler.amounts[name], f"/variables/{name}/value", self, handler)
        return self._amounts[name]


def text_of(template: Template, place: str, view: View, handler: Handler) -> str:
    """Return what a text comes to; raises ValueUnusable, which says that the template at this place needs it."""
    try:
        return render(template, lambda path: view.of(handler, path), handler.rounding)
    except ValueUnusable as unusable:
        raise _needed_by(unusable, place, view) from None


def amount_of(template: Template, place: str, view: View, handler: Handler) -> int:
    """Return what an amount comes to in minor units, of whatever size; raises ValueUnusable."""
    try:
        return render_amount(template, lambda path: view.of(handler, path), handler.rounding)
    except ValueUnusable as unusable:
        raise _needed_by(unusable, place, view) from None


def entry_of(plan: EntryPlan, place: str, view: View, handler: Handler) -> PostEntry | None:
    """Return the entry that a plan comes to, or None where all its amounts come to zero; raises ValueUnusable."""

    def text(name: str, template: Template | None, length: int) -> str | None:
        if template is None:
            return None
        return _bounded(text_of(template, f"{place}/{name}", view, handler), f"{place}/{name}", length)

    lines = [
        line
        for position, each in enumerate(plan.lines)
        if (line := _line(each, f"{place}/lines/{position}", view, handler)) is not None
    ]
    if not lines:
        return None
    if len(lines) < 2:
        raise ValueUnusable(f"{place}/lines", "has only one line with an amount other than zero")
    status = _choice(plan.status, f"{place}/status", STATUSES, view, handler)
    return PostEntry(
        lines=tuple(lines),
        status=cast("Literal['posted', 'pending']", status),
        description=text("description", plan.description, DESCRIPTION_MAX),
        effective_at=_instant(plan.effective_at, f"{place}/effective_at", view, handler),
        external_id=text("external_id", plan.external_id, EXTERNAL_ID_MAX) or None,
        fx_rate_id=_rate(plan.fx_rate_id, f"{place}/fx_rate_id", view, handler),
        metadata=_metadata(plan.metadata, f"{place}/metadata", view, handler),
    )


def _line(plan: LinePlan, place: str, view: View, handler: Handler) -> LineDraft | None:
    """Return a line, or None where its amount comes to zero."""
    amount = amount_of(plan.amount, f"{place}/amount", view, handler)
    if amount == 0:
        return None
    if not 0 < amount <= AMOUNT_MAX:
        why = f"comes to {_shown(amount)}, and an amount is 1 to {AMOUNT_MAX} minor units"
        raise ValueUnusable(f"{place}/amount", why)
    account = text_of(plan.account, f"{place}/account_id", view, handler)
    if not is_id(account) and _REFERENCE.match(account) is None:
        shown = account[:_SHOWN_MAX]
        raise ValueUnusable(f"{place}/account_id", f"comes to {shown!r}, which is no account's id and no external_id:…")
    direction = _choice(plan.direction, f"{place}/direction", DIRECTIONS, view, handler)
    return LineDraft(
        account=account,
        direction=cast("Literal['debit', 'credit']", direction),
        amount=amount,
        metadata=_metadata(plan.metadata, f"{place}/metadata", view, handler),
        lock_version=None
        if plan.lock_version is None
        else _stored(plan.lock_version, f"{place}/lock_version", 0, view, handler),
        conditions=tuple(
            Condition(
                balance=each.balance,
                operator=each.operator,
                value=_stored(
                    each.value, f"{place}/{each.balance}_balance_amount/{each.operator}", -AMOUNT_MAX - 1, view, handler
                ),
            )
            for each in plan.demands
        ),
    )


def _stored(template: Template, place: str, least: int, view: View, handler: Handler) -> int:
    """Return a whole number that a balance or a version can be."""
    number = amount_of(template, place, view, handler)
    if not least <= number <= AMOUNT_MAX:
        raise ValueUnusable(place, f"comes to {_shown(number)}, and has to be from {least} to {AMOUNT_MAX}")
    return number


def _shown(number: int) -> str:
    return str(number) if number.bit_length() <= 128 else "a number of more than 38 digits"


def _rate(template: Template | None, place: str, view: View, handler: Handler) -> str | None:
    """Return the id of a rate; one that comes to nothing is none."""
    text = "" if template is None else text_of(template, place, view, handler)
    if text and not is_id(text):
        raise ValueUnusable(place, f"comes to {text[:_SHOWN_MAX]!r}, which is no id")
    return text or None


def _metadata(pairs: Iterable[tuple[str, Template]], place: str, view: View, handler: Handler) -> dict[str, str]:
    found = {}
    for key, template in pairs:
        where = f"{place}/{_escape(key)}"
        found[key] = _bounded(text_of(template, where, view, handler), where, METADATA_VALUE_MAX)
    return found


def _choice(template: Template, place: str, choices: tuple[str, ...], view: View, handler: Handler) -> str:
    text = text_of(template, place, view, handler)
    if text not in choices:
        raise ValueUnusable(place, f"comes to {text[:_SHOWN_MAX]!r}, and has to be one of {', '.join(choices)}")
    return text


def _instant(template: Template | None, place: str, view: View, handler: Handler) -> int | None:
    if template is None:
        return view.effective_at
    text = text_of(template, place, view, handler)
    try:
        return parse_instant(text)
    except ValueError:
        why = f"comes to {text[:_SHOWN_MAX]!r}, which is no RFC 3339 time with an offset"
        raise ValueUnusable(place, why) from None


def _bounded(text: str, place: str, length: int) -> str:
    if len(text) > length:
        raise ValueUnusable(place, f"comes to {len(text)} characters, and {length} are allowed")
    return text


def _walk(path: Path, root: Any, segments: Iterable[str], pointer: str) -> Any:
    found = root
    for segment in segments:
        if isinstance(found, dict) and segment in found:
            found = found[segment]
        elif isinstance(found, list) and segment.isdecimal() and int(segment) < len(found):
            found = found[int(segment)]
        else:
            raise ValueUnusable(path.text, "is not there", pointer=pointer)
    return found


def _needed_by(unusable: ValueUnusable, place: str, view: View) -> ValueUnusable:
    """Name the innermost template that needs it, once, and where in the request it stands."""
    if unusable.needed_by:
        return unusable
    pointer = unusable.pointer or view.pointer_of(unusable.path)
    return ValueUnusable(unusable.what, unusable.why, needed_by=place, pointer=pointer)


def _escape(token: str) -> str:
    return token.replace("~", "~0").replace("/", "~1")
