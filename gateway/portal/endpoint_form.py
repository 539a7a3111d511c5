"""The form of a webhook endpoint: what its fields say of an endpoint, and what is asked for with what was filled in.

An empty field is the default. Headers and TLS hold what is never shown again: they change only where that is chosen.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from delivery.shapes import Endpoint
from engine.errors import Fault
from gateway import wire
from gateway.portal.visit import Form
from gateway.problems import Problem, invalid

NUMBERS: Final = (
    "timeout_s",
    "max_in_flight",
    "rate_limit",
    "disable_after_s",
    "max_batch",
    "max_wait_ms",
    "schema_version",
)
CHOICES: Final = {"ordering": "parallel", "on_exhausted": "block", "format": "standard", "compression": "none"}
_TLS: Final = ("certificate", "private_key", "ca")
_HELD: Final = ("change_headers", "change_tls", "headers", *(f"tls_{name}" for name in _TLS))
FIELDS: Final = (
    *(
        "url",
        "description",
        "other_types",
        "ordering_key",
        "retry_schedule",
        "payload",
        "members",
        "filter",
        "metadata",
    ),
    *("signature", *CHOICES, *NUMBERS, *_HELD),
)
_NUMBER: Final = re.compile(r"-?[0-9]{1,15}")
_LIST: Final = re.compile(r"[\s,]+")


def filled(form: Form) -> dict[str, Any]:
    """Return what was filled in, to be shown again; a key that is never shown again is to be given again."""
    values: dict[str, Any] = {name: form.text(name) for name in FIELDS}
    return values | {"event_types": form.texts("event_types"), "tls_private_key": ""}


def of_endpoint(endpoint: Endpoint) -> dict[str, Any]:
    """Return the fields as an endpoint has them."""
    chosen = endpoint.payload if isinstance(endpoint.payload, str) else "members"
    metadata = msgspec.json.format(msgspec.json.encode(endpoint.metadata), indent=2).decode()
    values = dict.fromkeys(FIELDS, "") | {
        name: "" if (value := getattr(endpoint, name)) is None else str(value)
        for name in ("url", "description", "ordering_key", *CHOICES, *NUMBERS)
    }
    return values | {
        "event_types": endpoint.event_types,
        "retry_schedule": ", ".join(str(each) for each in endpoint.retry_schedule),
        "payload": chosen,
        "members": "" if isinstance(endpoint.payload, str) else "\n".join(endpoint.payload),
        "filter": ""
        if endpoint.filter is None
        else msgspec.json.format(msgspec.json.encode(endpoint.filter), indent=2).decode(),
        "metadata": metadata if endpoint.metadata else "",
    }


def asked_for(form: Form, *, before: Endpoint | None = None) -> wire.Document:
    """Return the request that a form stands for; raises the problem of a field that cannot be read.

    Of an endpoint that is there only what differs is asked for: a default that is shown stays a default.
    """
    given = _options(form)
    if before is not None:
        shown = {name: (each,) if isinstance(each, str) else each for name, each in of_endpoint(before).items()}
        was = _options(Form(fields=shown))
        given = {name: each for name, each in given.items() if _differs(each, was[name])}
    if before is None or form.text("change_headers"):
        given["headers"] = _headers(form.text("headers"))
    if before is None or form.text("change_tls"):
        given["tls"] = {name: text for name in _TLS if (text := form.text(f"tls_{name}"))} or None
    if before is None:
        given["signature"] = form.text("signature") or None
    return wire.Document(given, b"")


def faults_of(problem: Problem) -> list[str]:
    """Return what is wrong with a form, each with the field that it is about."""
    return [f"{each.pointer.lstrip('/') or 'The form'}: {each.detail}" for each in problem.faults] or [problem.detail]


def _options(form: Form) -> dict[str, Any]:
    """Return the options that the fields show openly."""
    return {
        "url": form.text("url"),
        "event_types": _types(form),
        "description": form.text("description") or None,
        "metadata": _json(form, "metadata", {}),
        "retry_schedule": [number(each) for each in _LIST.split(form.text("retry_schedule")) if each] or None,
        "ordering_key": form.text("ordering_key") or None,
        "filter": _json(form, "filter", None),
        "payload": _payload(form),
        **{name: number(form.text(name)) for name in NUMBERS},
        **{name: form.text(name) or CHOICES[name] for name in CHOICES},
    }


def _types(form: Form) -> list[str]:
    """Return the chosen families and whatever was written beside them."""
    written = [each for each in _LIST.split(form.text("other_types")) if each]
    return list(dict.fromkeys([*form.texts("event_types"), *written]))


def _payload(form: Form) -> Any:
    chosen = form.text("payload")
    if chosen != "members":
        return chosen or None
    return [each.strip() for each in form.text("members").splitlines() if each.strip()]


def _differs(one: Any, other: Any) -> bool:
    """Tell whether an option is another one; types and members are sets, whatever the order of their boxes."""
    several = (
        isinstance(one, list) and isinstance(other, list) and all(isinstance(each, str) for each in (*one, *other))
    )
    return sorted(one) != sorted(other) if several else bool(one != other)


def number(text: str) -> Any:
    """Return a number; what is none stays as it is, so that the shape refuses it by name."""
    return int(text) if _NUMBER.fullmatch(text) else text or None


def _json(form: Form, name: str, empty: Any) -> Any:
    text = form.text(name)
    if not text:
        return empty
    try:
        return wire.parse(text.encode(), "application/json").value
    except Problem as problem:
        faults = [
            Fault(code=each.code, pointer=f"/{name}{each.pointer}", detail=each.detail) for each in problem.faults
        ]
        detail = problem.detail.replace("The body", "It")
        raise invalid(faults or [Fault(code="validation.invalid_value", pointer=f"/{name}", detail=detail)]) from None


def _headers(text: str) -> Mapping[str, str]:
    """Read headers as they stand in a request: a name, a colon and a value a line."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        name, colon, value = line.partition(":")
        if not line.strip():
            continue
        if not colon or name.strip() in found:
            why = "stands twice" if colon else "has no colon: write `Name: value`"
            fault = Fault(code="validation.invalid_value", pointer="/headers", detail=f"{line.strip()[:60]!r} {why}.")
            raise invalid([fault])
        found[name.strip()] = value.strip()
    return found
