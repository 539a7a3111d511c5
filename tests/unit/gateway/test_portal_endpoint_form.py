"""The form of an endpoint: what is asked for is what was changed, and what cannot be read is named."""

from __future__ import annotations

from typing import Any, Final

import msgspec
import pytest

from delivery.shapes import Endpoint, EndpointChange, EndpointCreate
from gateway import wire
from gateway.portal.endpoint_form import asked_for, faults_of, filled, of_endpoint
from gateway.portal.visit import Form
from gateway.problems import Problem

SHOWN: Final[dict[str, Any]] = {
    "id": "e", "url": "https://partner.example", "event_types": ["account.created", "entry.*"], "description": None,
    "metadata": {"team": "payments"}, "headers": {"authorization": "***"}, "timeout_s": 15, "max_in_flight": 10,
    "retry_schedule": [0, 5], "ordering": "ordered_by", "ordering_key": "metadata.a b", "on_exhausted": "block",
    "passed_over": 0, "rate_limit": None, "disable_after_s": 432_000, "filter": {"path": "/a", "gt": 1},
    "payload": ["/data/metadata/a b", "/x,y"], "format": "standard", "schema_version": 1, "compression": "gzip",
    "max_batch": 1, "max_wait_ms": 0, "signing_keys": [], "tls": None, "status": "active", "status_reason": None,
    "last_sequence": 0, "failing_since": None, "lock_version": 1, "created_at": "", "updated_at": "",
    "circuit": {"state": "closed", "window": 5, "opened_at": None, "next_probe_at": None},
}  # fmt: skip
ENDPOINT: Final = msgspec.convert(SHOWN, Endpoint)


def sent(**fields: str | list[str]) -> Form:
    """Return the endpoint's form as a browser sends it, with some fields filled in otherwise."""
    values = of_endpoint(ENDPOINT) | {"event_types": ["entry.*"], "other_types": "account.created"} | fields
    lines = {name: each.replace("\n", "\r\n") if isinstance(each, str) else each for name, each in values.items()}
    return Form(fields={name: (each,) if isinstance(each, str) else each for name, each in lines.items()})


def test_a_form_that_was_not_touched_asks_for_nothing() -> None:
    """Neither does a default become a choice, nor is a header that is not shown lost."""
    assert asked_for(sent(), before=ENDPOINT).value == {}


@pytest.mark.parametrize(
    ("fields", "asked"),
    [
        ({"rate_limit": "50"}, {"rate_limit": 50}),
        ({"timeout_s": ""}, {"timeout_s": None}),
        ({"retry_schedule": "0, 5  60"}, {"retry_schedule": [0, 5, 60]}),
        ({"retry_schedule": "5, 0"}, {"retry_schedule": [5, 0]}),
        ({"filter": ""}, {"filter": None}),
        ({"metadata": ""}, {"metadata": {}}),
        ({"payload": "thin"}, {"payload": "thin"}),
        ({"members": "/x,y\n\n /data/id "}, {"payload": ["/x,y", "/data/id"]}),
        ({"ordering": "parallel"}, {"ordering": "parallel"}),
        ({"other_types": "account.created, hold.*"}, {"event_types": ["entry.*", "account.created", "hold.*"]}),
        ({"change_headers": "yes"}, {"headers": {}}),
        ({"change_headers": "yes", "headers": "A: b:c\n\nD:e"}, {"headers": {"A": "b:c", "D": "e"}}),
        ({"headers": "A: b"}, {}),
        ({"change_tls": "yes"}, {"tls": None}),
        ({"change_tls": "yes", "tls_ca": "PEM"}, {"tls": {"ca": "PEM"}}),
    ],
)
def test_what_was_changed_is_asked_for(fields: dict[str, str], asked: dict[str, Any]) -> None:
    """That, and nothing else; the API's shape takes it."""
    document = asked_for(sent(**fields), before=ENDPOINT)
    assert document.value == asked
    wire.decode(document, EndpointChange)


def test_a_new_endpoint_has_the_defaults_where_nothing_was_filled_in() -> None:
    """An empty field is no choice."""
    draft = wire.decode(asked_for(Form(fields={"url": ("https://p.example",), "event_types": ("*",)})), EndpointCreate)
    plain = EndpointCreate(url="https://p.example", event_types=["*"], format="standard", compression="none")
    assert draft == plain


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"filter": "{"}, "filter: It is not JSON"),
        ({"filter": '{"path": "/a", "path": "/b"}'}, "filter/path: "),
        ({"metadata": "[1]"}, "metadata: "),
        ({"timeout_s": "soon"}, "timeout_s: "),
        ({"max_batch": "51"}, "max_batch: "),
        ({"retry_schedule": "0, -1"}, "retry_schedule/1: "),
        ({"payload": "members", "members": ""}, "payload: "),
        ({"change_headers": "yes", "headers": "no colon"}, "headers: 'no colon' has no colon"),
        ({"change_headers": "yes", "headers": "A: 1\nA: 2"}, "headers: 'A: 2' stands twice"),
    ],
)
def test_what_cannot_be_is_named_with_its_field(fields: dict[str, str], fault: str) -> None:
    """Whoever filled it in knows where to look."""
    with pytest.raises(Problem) as refused:
        wire.decode(asked_for(sent(**fields), before=ENDPOINT), EndpointChange)
    [said] = faults_of(refused.value)
    assert said.startswith(fault)


def test_what_was_filled_in_is_shown_again_but_for_a_private_key() -> None:
    """A form that is refused loses nothing that may be shown."""
    form = sent(url="https://other.example", change_tls="yes", tls_private_key="PEM", tls_certificate="PEM")
    values = filled(form)
    assert (values["url"], values["tls_certificate"], values["tls_private_key"]) == ("https://other.example", "PEM", "")
    assert values["event_types"] == ["entry.*"]
