"""Event handlers in Modern Treasury's words: the bodies of its wallet tutorial are taken as they are written there. Pure.

What it calls `ledger_transaction_template`, `ledger_entries`, `ledger_account_id` and `ledger_account` is one of `entries`, its
`lines`, `account_id` and `account` here. Whatever is wrong is named at its place in the words that were sent.
"""

from __future__ import annotations

import re
from typing import Any, Final

_TEMPLATE: Final = "ledger_transaction_template"
_LINES: Final = "ledger_entries"
_ACCOUNT: Final = "ledger_account_id"
_KIND: Final = "ledger_account"
_POINTER: Final = re.compile(r"^/entries/0(?:/lines(?:(/\d+)(/account_id)?)?)?(?=/|$)")


def speaks_theirs(body: Any) -> bool:
    """Tell whether a body says in their words which entries are made."""
    return isinstance(body, dict) and _TEMPLATE in body and "entries" not in body


def in_ours(body: dict[str, Any]) -> dict[str, Any]:
    """Return the body in our words; what is in neither's stays, and is refused as unknown."""
    ours = {name: value for name, value in body.items() if name != _TEMPLATE}
    if isinstance(ours.get("variables"), dict):
        ours["variables"] = {name: _variable(each) for name, each in ours["variables"].items()}
    return ours | {"entries": [_entry(body[_TEMPLATE])]}


def pointer_in_theirs(pointer: str) -> str:
    """Return where in their words a place in ours is."""
    return _POINTER.sub(_place, pointer)


def _place(found: re.Match[str]) -> str:
    if "/lines" not in found[0]:
        return f"/{_TEMPLATE}"
    account = f"/{_ACCOUNT}" if found[2] else ""
    return f"/{_TEMPLATE}/{_LINES}{found[1] or ''}{account}"


def _variable(variable: Any) -> Any:
    is_theirs = isinstance(variable, dict) and variable.get("type") == _KIND
    return variable | {"type": "account"} if is_theirs else variable


def _entry(template: Any) -> Any:
    if not isinstance(template, dict) or not isinstance(template.get(_LINES), list):
        return template
    rest = {name: value for name, value in template.items() if name != _LINES}
    return rest | {"lines": [_line(each) for each in template[_LINES]]}


def _line(line: Any) -> Any:
    if not isinstance(line, dict) or _ACCOUNT not in line:
        return line
    return {"account_id" if name == _ACCOUNT else name: value for name, value in line.items()}
