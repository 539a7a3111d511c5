"""The tables agree: routes, scopes, problem codes, and the packages' error trees."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from auth import errors as auth_errors
from auth.scopes import SCOPES
from delivery import errors as delivery_errors
from engine import errors as engine_errors
from gateway.codes import CODES
from gateway.problems import PROBLEMS
from gateway.route import Route
from gateway.routes import ROUTES, SOCKET_PATH
from openapi.operations import operation_id

ROOTS: tuple[type[Exception], ...] = (
    engine_errors.EngineError,
    auth_errors.AuthError,
    delivery_errors.DeliveryError,
)
# Raised by the program only: nothing that a request does leads there.
NEVER_LEAVES: frozenset[type[Exception]] = frozenset((auth_errors.ClientExists,))


def leaves(kind: type[Exception]) -> Iterator[type[Exception]]:
    """Return every class of a tree that has none below it, of the packages' own."""
    below = [each for each in kind.__subclasses__() if each.__module__.endswith("errors")]
    if not below:
        yield kind
    for each in below:
        yield from leaves(each)


def test_every_route_names_a_scope_that_there_is() -> None:
    """A scope nobody can be granted would close an operation for everybody."""
    assert {route.scope for route in ROUTES if route.scope is not None} == set(SCOPES)


def test_every_operation_of_the_api_needs_a_scope() -> None:
    """Below `/v1` nothing is public, and what is beside it knows no scopes."""
    assert [route.path for route in ROUTES if (route.scope is None) == route.path.startswith("/v1/")] == []


def test_reading_never_needs_the_right_to_write() -> None:
    """A dashboard's credential reads; whoever changes something holds more than a right to read."""
    for route in ROUTES:
        # A ticket stores nothing and lets nobody do more than read.
        if route.scope is not None and route.tag != "API keys" and route.path != "/v1/stream_tickets":
            assert route.scope.endswith(".read") == (route.method == "GET"), route.path


def test_a_path_and_method_stand_once_in_the_table() -> None:
    """The second of two would never be reached."""
    places = [(route.method, route.path) for route in ROUTES]
    assert len(set(places)) == len(places)
    assert SOCKET_PATH not in {route.path for route in ROUTES}


@pytest.mark.parametrize("route", ROUTES, ids=operation_id)
def test_a_route_is_consistent(route: Route) -> None:
    """What a row says of itself fits together."""
    assert set(route.refusals) <= set(CODES)
    assert route.body is None or route.method in {"POST", "PUT", "PATCH"}
    assert not (route.idempotent and route.method == "GET")
    assert not (route.conditional and route.method == "GET")
    assert not (route.page and route.method != "GET")
    assert not (route.form and route.body)
    names = [name for each in route.query for name in (each.name, *each.aliases)]
    assert len(set(names)) == len(names)
    assert all(each.meaning.endswith(".") for each in route.query)


@pytest.mark.parametrize("root", ROOTS, ids=lambda root: root.__module__)
def test_every_error_that_can_leave_a_package_has_a_code(root: type[Exception]) -> None:
    """No refusal reaches a client as an internal error because the table forgot it."""
    missing = [
        kind.__qualname__
        for kind in leaves(root)
        if kind not in NEVER_LEAVES and not any(each in PROBLEMS for each in kind.__mro__)
    ]
    assert missing == []


def test_every_problem_has_a_code_that_there_is() -> None:
    """The table of problems names codes of the table of codes."""
    assert set(PROBLEMS.values()) <= set(CODES)


def test_a_code_says_what_a_client_needs_to_know() -> None:
    """Status, title, a meaning in sentences; what may be tried again is told so."""
    for name, code in CODES.items():
        assert 400 <= code.status <= 599, name
        assert code.title, name
        assert code.meaning.rstrip().endswith((".", "`.")), name
        assert code.retryable or code.status < 500, name
        assert not (code.retryable and code.status in {400, 401, 403, 404, 422}), name
