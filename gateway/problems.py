"""What went wrong, as RFC 9457 problem documents: the one table from exceptions to codes, and the encoding."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
from starlette.responses import Response

from auth import errors as auth_errors
from delivery import errors as delivery_errors
from engine import entry_errors, event_errors, fx_errors, reference_errors
from engine import errors as engine_errors
from engine.databases import is_outage
from engine.errors import Fault
from gateway.codes import CODES

MEDIA_TYPE: Final = "application/problem+json"

PROBLEMS: Final[dict[type[Exception], str]] = {
    engine_errors.NotFound: "not_found",
    engine_errors.AccountNotFound: "account.not_found",
    engine_errors.AccountClosed: "account.closed",
    engine_errors.AccountNotEmpty: "account.not_empty",
    engine_errors.AlreadyTaken: "validation.not_unique",
    reference_errors.AccountCodeTaken: "account.code_taken",
    reference_errors.CurrencyListed: "validation.not_unique",
    reference_errors.CurrencyExponentMismatch: "currency_mismatch",
    engine_errors.SeveralLedgers: "validation.several_ledgers",
    engine_errors.UnbalancedEntry: "unbalanced_entry",
    engine_errors.FxRateRequired: "fx_rate_required",
    fx_errors.FxRateExpired: "fx_rate_expired",
    fx_errors.FxRateMismatch: "fx_rate_mismatch",
    fx_errors.FxAmountMismatch: "fx_amount_mismatch",
    engine_errors.AmountOutOfRange: "amount_out_of_range",
    engine_errors.InsufficientFunds: "insufficient_funds",
    entry_errors.LimitBroken: "condition_failed",
    engine_errors.CategoryCycle: "account_category.cycle",
    engine_errors.CategoryMismatch: "account_category.mismatch",
    engine_errors.CategoryLimitReached: "account_category.limit_reached",
    engine_errors.MonitorArchived: "balance_monitor.archived",
    engine_errors.MonitorLimitReached: "balance_monitor.limit_reached",
    engine_errors.LockVersionConflict: "lock_version_conflict",
    engine_errors.VersionUnknown: "validation.out_of_range",
    engine_errors.PreconditionFailed: "precondition_failed",
    engine_errors.DuplicateEntry: "duplicate_entry",
    engine_errors.EntryNotPending: "entry.not_pending",
    entry_errors.EntryNotPosted: "entry.not_posted",
    entry_errors.EntryAlreadyReversed: "entry.already_reversed",
    entry_errors.LineNotFound: "validation.invalid_value",
    entry_errors.PartExceedsLine: "entry.part_exceeds",
    entry_errors.NothingToPost: "validation.out_of_range",
    entry_errors.PeriodClosed: "ledger.period_closed",
    entry_errors.PeriodNotOver: "validation.out_of_range",
    entry_errors.EntryIsHold: "entry.is_hold",
    entry_errors.HoldNotOpen: "hold.not_open",
    entry_errors.CaptureExceeds: "hold.capture_exceeds",
    entry_errors.CaptureNeedsLines: "validation.invalid_value",
    entry_errors.HoldExpiryPast: "validation.out_of_range",
    entry_errors.LocalNameUnknown: "validation.invalid_value",
    entry_errors.ConditionFailed: "condition_failed",
    event_errors.TemplateInvalid: "validation.invalid_template",
    event_errors.HandlerInvalid: "validation.invalid_template",
    event_errors.NoHandlerMatches: "handler.none_matches",
    event_errors.SeveralHandlersMatch: "handler.several_match",
    event_errors.VariableUnresolved: "handler.account_unresolved",
    event_errors.ValueUnusable: "handler.value_unusable",
    event_errors.DuplicateBusinessEvent: "duplicate_business_event",
    engine_errors.CurrencyExponentUnknown: "validation.required_field_missing",
    engine_errors.IdempotencyKeyReused: "idempotency.key_reused",
    engine_errors.CursorInvalid: "cursor.invalid",
    engine_errors.CursorExpired: "cursor.expired",
    engine_errors.IdempotencyInProgress: "idempotency.in_progress",
    engine_errors.Overloaded: "overloaded",
    engine_errors.Unavailable: "unavailable",
    engine_errors.SiteUnknown: "unavailable",
    engine_errors.BooksCorrupt: "unavailable",
    auth_errors.CredentialsMissing: "auth.missing",
    auth_errors.CredentialsInvalid: "auth.invalid",
    auth_errors.CredentialsExpired: "auth.expired",
    auth_errors.CredentialsRevoked: "auth.revoked",
    auth_errors.ScopeInsufficient: "auth.insufficient_scope",
    auth_errors.ScopeUnknown: "validation.invalid_value",
    auth_errors.ScopeExceeded: "auth.insufficient_scope",
    auth_errors.KeyNotFound: "not_found",
    auth_errors.KeyLifetimeInvalid: "validation.out_of_range",
    auth_errors.IdempotencyKeyReused: "idempotency.key_reused",
    auth_errors.SiteNameInvalid: "validation.invalid_value",
    auth_errors.SiteUnknown: "not_found",
    auth_errors.SiteExists: "validation.not_unique",
    auth_errors.ClientNotFound: "not_found",
    auth_errors.ClientExists: "validation.not_unique",
    auth_errors.SignInRefused: "auth.invalid",
    auth_errors.SignInThrottled: "rate_limit",
    auth_errors.AdministratorExists: "validation.not_unique",
    auth_errors.AdministratorNotFound: "not_found",
    auth_errors.EmailInvalid: "validation.invalid_value",
    auth_errors.PasswordUnfit: "validation.out_of_range",
    auth_errors.SessionNotFound: "not_found",
    auth_errors.MasterKeyInvalid: "internal",
    auth_errors.KeyUnavailable: "unavailable",
    auth_errors.SealBroken: "internal",
    delivery_errors.EndpointNotFound: "not_found",
    delivery_errors.DeliveryNotFound: "not_found",
    delivery_errors.InspectorNotFound: "not_found",
    delivery_errors.InspectorLimitReached: "endpoint.limit_reached",
    delivery_errors.ReplayNotFound: "not_found",
    delivery_errors.InvalidReplay: "validation.invalid_value",
    delivery_errors.ReplayFinished: "replay.finished",
    delivery_errors.DeliveryNotSkippable: "delivery.not_skippable",
    delivery_errors.EndpointDisabled: "endpoint.disabled",
    delivery_errors.EndpointLimitReached: "endpoint.limit_reached",
    delivery_errors.InvalidUrl: "validation.destination_not_allowed",
    delivery_errors.UnknownEventTypes: "validation.invalid_value",
    delivery_errors.ReservedHeaders: "validation.invalid_value",
    delivery_errors.InvalidOrdering: "validation.invalid_value",
    delivery_errors.InvalidFilter: "validation.invalid_value",
    delivery_errors.InvalidForm: "validation.invalid_value",
    delivery_errors.InvalidTls: "validation.invalid_value",
    delivery_errors.DestinationNotAllowed: "validation.destination_not_allowed",
    delivery_errors.InvalidSecret: "internal",
    delivery_errors.SignatureRejected: "internal",
}
"""The code of every error that may leave a package. A class not named here is its nearest ancestor's code."""

_POINTERS: Final[dict[type[Exception], str]] = {
    auth_errors.ScopeUnknown: "/scopes",
    auth_errors.ScopeExceeded: "/scopes",
    auth_errors.KeyLifetimeInvalid: "/expires_at",
    delivery_errors.InvalidUrl: "/url",
    delivery_errors.UnknownEventTypes: "/event_types",
    delivery_errors.ReservedHeaders: "/headers",
    delivery_errors.InvalidOrdering: "/ordering_key",
}

_OURS_TO_KNOW: Final = (
    auth_errors.CredentialsRefused,
    auth_errors.VaultError,
    delivery_errors.InvalidSecret,
    delivery_errors.SignatureRejected,
)
"""Errors whose words are for the log: they would tell a forger how close they came, or name keys of ours."""


@dataclass(slots=True, kw_only=True, eq=False)
class Problem(Exception):
    """A request that the surface itself refuses: malformed, not acceptable, not understood, too much."""

    code: str
    detail: str
    faults: Sequence[Fault] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)


def invalid(faults: Sequence[Fault]) -> Problem:
    """Return the problem of a request in which these things are wrong; the first gives it its code."""
    first = faults[0]
    more = "" if len(faults) == 1 else f" And {len(faults) - 1} more, see errors."
    return Problem(code=first.code, detail=first.detail + more, faults=faults)


def problem_of(error: Exception) -> Problem:
    """Return an exception as a problem: by the table, or `internal` without a word of what it was."""
    if isinstance(error, Problem):
        return error
    for kind in type(error).__mro__:
        code = PROBLEMS.get(kind)
        if code is not None:
            return _described(error, code, _POINTERS.get(kind))
    if is_outage(error):
        return Problem(code="unavailable", detail="The database did not answer.")
    return Problem(code="internal", detail="Something is wrong on our side. It is logged under this request id.")


def refusal_teller(base_url: str) -> Callable[[engine_errors.Refused], bytes]:
    """Return what tells a refusal that is no response of its own: the problem document, without a request's ids."""

    def tell(refused: engine_errors.Refused) -> bytes:
        return msgspec.json.encode(_document(problem_of(refused), base_url))

    return tell


def respond(problem: Problem, *, base_url: str, request_id: str, correlation_id: str | None) -> Response:
    """Return the problem document as a response."""
    code = CODES[problem.code]
    body = {
        **_document(problem, base_url),
        "request_id": request_id,
        "correlation_id": correlation_id,
        **problem.extra,
    }
    headers = {"cache-control": "no-store", **problem.headers}
    if code.status == 401:
        headers["www-authenticate"] = _challenge(problem)
    elif problem.code == "auth.insufficient_scope":
        headers["www-authenticate"] = 'Bearer realm="gledger", error="insufficient_scope"'
    elif code.status == 503 and "retry-after" not in headers:
        headers["retry-after"] = "1"
    return Response(msgspec.json.encode(body), status_code=code.status, media_type=MEDIA_TYPE, headers=headers)


def _document(problem: Problem, base_url: str) -> dict[str, Any]:
    code = CODES[problem.code]
    return {
        "type": f"{base_url}/errors/{problem.code}",
        "title": code.title,
        "status": code.status,
        "detail": problem.detail,
        "code": problem.code,
        "errors": [{"code": each.code, "pointer": each.pointer, "detail": each.detail} for each in problem.faults],
        "retryable": code.retryable,
    }


def _challenge(problem: Problem) -> str:
    """RFC 6750 §3: no error code where the request carried no credentials."""
    return 'Bearer realm="gledger"' + ("" if problem.code == "auth.missing" else ', error="invalid_token"')


def _described(error: Exception, code: str, pointer: str | None) -> Problem:
    detail = str(error)
    faults: list[Fault] = []
    extra: dict[str, Any] = {}
    headers: dict[str, str] = {}
    if isinstance(error, engine_errors.SeveralFaults):
        faults = error.faults()
    elif (isinstance(error, engine_errors.Refused) and error.pointer) or isinstance(
        error, delivery_errors.InvalidReplay
    ):
        faults = [Fault(code=code, pointer=error.pointer, detail=detail)]
    elif isinstance(error, delivery_errors.InvalidTls):
        faults = [Fault(code=code, pointer=f"/tls/{error.member}", detail=detail)]
    elif isinstance(error, delivery_errors.InvalidForm):
        faults = [Fault(code=code, pointer=f"/{error.field}", detail=detail)]
    elif pointer is not None:
        faults = [Fault(code=code, pointer=pointer, detail=detail)]
    if isinstance(error, engine_errors.CursorExpired):
        extra = {"earliest": error.earliest, "head": error.head}
    if isinstance(error, _OURS_TO_KNOW):
        detail = CODES[code].meaning
    if isinstance(error, engine_errors.SiteUnknown | engine_errors.BooksCorrupt):
        detail = "This site's books are not served at the moment."
    if isinstance(error, engine_errors.PreconditionFailed):
        headers["etag"] = f'"{error.lock_version}"'
    return Problem(code=code, detail=detail, faults=faults, extra=extra, headers=headers)
