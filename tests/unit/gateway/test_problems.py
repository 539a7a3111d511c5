"""From exceptions to problem documents: the table, its headers, and that nothing of ours leaks."""

from __future__ import annotations

import msgspec
import pytest
from starlette.responses import Response

from auth import errors as auth_errors
from delivery import errors as delivery_errors
from engine import errors as engine_errors
from engine.errors import Fault
from gateway.codes import CODES
from gateway.problems import MEDIA_TYPE, Problem, invalid, problem_of, respond


def answer_to(problem: Problem) -> Response:
    """Return the response of a problem."""
    return respond(problem, base_url="https://ledger.example", request_id="r", correlation_id=None)


@pytest.mark.parametrize("code", CODES)
def test_a_problem_document_is_what_the_table_says(code: str) -> None:
    """RFC 9457's members, and ours beside them."""
    answer = respond(
        Problem(code=code, detail="Why."), base_url="https://ledger.example", request_id="r", correlation_id="c"
    )
    assert msgspec.json.decode(answer.body) == {
        "type": f"https://ledger.example/errors/{code}",
        "title": CODES[code].title,
        "status": CODES[code].status,
        "detail": "Why.",
        "code": code,
        "errors": [],
        "retryable": CODES[code].retryable,
        "request_id": "r",
        "correlation_id": "c",
    }
    assert answer.status_code == CODES[code].status
    assert answer.headers["content-type"] == MEDIA_TYPE
    assert ("www-authenticate" in answer.headers) == (CODES[code].status == 401 or code == "auth.insufficient_scope")
    assert ("retry-after" in answer.headers) == (CODES[code].status == 503)


def test_a_problem_says_itself_when_to_come_back() -> None:
    """What the problem knows goes before what the surface assumes."""
    problem = Problem(code="unavailable", detail="Why.", headers={"retry-after": "30"})
    assert answer_to(problem).headers["retry-after"] == "30"


@pytest.mark.parametrize("error", [RuntimeError("password=hunter2"), KeyError("secret"), ValueError("/etc/passwd")])
def test_what_nobody_expected_is_told_to_the_log_only(error: Exception) -> None:
    """An internal error says where to look for it, and nothing of what it was."""
    problem = problem_of(error)
    assert problem.code == "internal"
    assert str(error) not in problem.detail


def test_a_problem_stays_what_it_is() -> None:
    """The surface's own problems need no table."""
    problem = Problem(code="not_acceptable", detail="Why.")
    assert problem_of(problem) is problem


def test_an_error_without_a_code_has_its_nearest_ancestors() -> None:
    """A package may tell its refusals apart more finely than the table does."""

    class Closer(engine_errors.AccountClosed):
        """Closed in a particular way."""

    assert problem_of(Closer("a")).code == "account.closed"


def test_every_line_whose_account_is_missing_is_named() -> None:
    """Not the first one only, and below the entry of a batch that it stands in."""
    error = engine_errors.AccountNotFound(((0, "a"), (2, "b")))
    error.within("/entries/4")
    pointers = ["/entries/4/lines/0/account_id", "/entries/4/lines/2/account_id"]
    assert [fault.pointer for fault in problem_of(error).faults] == pointers


def test_a_refusal_points_at_the_part_it_is_about() -> None:
    """An engine's pointer is the fault's; without one there is no fault."""
    found = problem_of(engine_errors.InsufficientFunds("a", 1, 5, -3))
    assert [(fault.code, fault.pointer) for fault in found.faults] == [("insufficient_funds", "/lines/1/amount")]
    assert problem_of(engine_errors.EntryNotPending("e", "posted")).faults == []


def test_what_is_wrong_with_an_endpoint_points_at_its_field() -> None:
    """Delivery names no pointers; the surface knows where the field stands."""
    for error in (
        delivery_errors.InvalidUrl("scheme", "no https"),
        delivery_errors.UnknownEventTypes(["x.*"]),
        delivery_errors.ReservedHeaders(["host"]),
    ):
        [fault] = problem_of(error).faults
        assert fault.pointer == f"/{error.field}"


def test_a_cursor_that_is_too_old_comes_with_where_to_go_on() -> None:
    """The client needs no second request to know what is left."""
    answer = answer_to(problem_of(engine_errors.CursorExpired("v1.a", "v1.b")))
    told = msgspec.json.decode(answer.body)
    assert (told["earliest"], told["head"]) == ("v1.a", "v1.b")


def test_a_failed_precondition_tells_the_version() -> None:
    """The ETag of the answer is the one to look at next."""
    assert answer_to(problem_of(engine_errors.PreconditionFailed(9))).headers["etag"] == '"9"'


def test_nobody_learns_why_a_credential_is_refused() -> None:
    """The reason is for the log: it would tell a forger how close they came."""
    for error in (
        auth_errors.CredentialsInvalid("the signature of sandbox-7"),
        auth_errors.CredentialsExpired("sandbox-7 at 3"),
        auth_errors.KeyUnavailable("sandbox-7"),
    ):
        problem = problem_of(error)
        assert problem.detail == CODES[problem.code].meaning


def test_books_that_do_not_add_up_are_nobody_elses_business() -> None:
    """The caller is told that the site is not served, not what was found."""
    problem = problem_of(engine_errors.BooksCorrupt("debits 3, credits 4"))
    assert (problem.code, "debits" in problem.detail) == ("unavailable", False)


def test_the_first_of_several_faults_gives_the_problem_its_name() -> None:
    """And says how many more there are."""
    one = Fault(code="validation.invalid_type", pointer="/a", detail="No.")
    two = Fault(code="validation.unknown_field", pointer="/b", detail="No.")
    assert (invalid([one]).code, invalid([one]).detail) == ("validation.invalid_type", "No.")
    assert invalid([two, one]).code == "validation.unknown_field"
    assert invalid([two, one]).detail == "No. And 1 more, see errors."
