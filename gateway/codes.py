"""The one table of problem codes: their HTTP status, title, meaning, and whether trying again can help.

Everything that names a code reads it here: the answers, the pages at `/errors/{code}`, the OpenAPI document. Pure.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct


class Code(Struct, frozen=True, kw_only=True):
    """A machine-readable problem code (RFC 9457 `type` is its page on this server)."""

    status: int
    title: str
    meaning: str
    retryable: bool = False


def _code(status: int, title: str, meaning: str, *, retryable: bool = False) -> Code:
    return Code(status=status, title=title, meaning=meaning, retryable=retryable)


CODES: Final[dict[str, Code]] = {
    "request.malformed": _code(
        400,
        "Malformed request",
        "The body is not JSON, or a header or query parameter has the wrong form.",
    ),
    "cursor.invalid": _code(
        400,
        "Invalid cursor",
        "The cursor is not one of this feed or list: another site's, another history's, or garbled.",
    ),
    "idempotency.key_missing": _code(
        400,
        "Idempotency key missing",
        "This site demands an Idempotency-Key on every request that writes.",
    ),
    "idempotency.key_invalid": _code(
        400,
        "Invalid idempotency key",
        "A key is 1 to 255 visible ASCII characters, and header and body name the same one.",
    ),
    "auth.missing": _code(
        401,
        "Credentials missing",
        "Send an access token or an API key as Bearer, or an API key as X-API-Key.",
    ),
    "auth.invalid": _code(401, "Invalid credentials", "The token or key is not one that this server issued."),
    "auth.expired": _code(
        401, "Expired credentials", "The token or key was valid and is past its time. Get a new one."
    ),
    "auth.revoked": _code(401, "Revoked credentials", "The token or key was taken back."),
    "auth.insufficient_scope": _code(403, "Insufficient scope", "The credentials do not carry the scope this needs."),
    "auth.ip_not_allowed": _code(403, "Address not allowed", "The credentials may not be used from this address."),
    "auth.origin_not_allowed": _code(
        403, "Origin not allowed", "The ticket was made for pages of another web origin, or for none."
    ),
    "not_found": _code(404, "Not found", "There is no such resource on your site."),
    "method_not_allowed": _code(405, "Method not allowed", "The path exists and does not take this method; see Allow."),
    "not_acceptable": _code(406, "Not acceptable", "The resource cannot be shown in any form that Accept names."),
    "duplicate_entry": _code(
        409,
        "Duplicate entry",
        "An accepted, pending or posted entry has this external_id.",
    ),
    "duplicate_business_event": _code(409, "Duplicate business event", "A business event has this external_id."),
    "idempotency.in_progress": _code(
        409,
        "Request in progress",
        "The first request with this key has been running for over ten seconds.",
        retryable=True,
    ),
    "lock_version_conflict": _code(
        409,
        "Lock version conflict",
        "A line's account is at another lock_version than the line demands.",
    ),
    "replay.finished": _code(
        409,
        "Replay finished",
        "The replay was canceled, or has queued everything it found: it cannot be paused, resumed or canceled.",
    ),
    "delivery.not_skippable": _code(
        409,
        "Delivery not skippable",
        "Only a delivery that waits or was given up can be skipped: this one is under way, or was delivered.",
    ),
    "hold.not_open": _code(409, "Hold not open", "The hold was captured, released or expired before."),
    "hold.capture_exceeds": _code(409, "Capture exceeds hold", "More was to be captured than the hold still reserves."),
    "entry.not_pending": _code(409, "Entry not pending", "Only a pending entry can be posted, archived or changed."),
    "entry.not_posted": _code(409, "Entry not posted", "Only a posted entry can be reversed."),
    "entry.is_hold": _code(
        409, "Entry is a hold", "A hold's entry is posted and archived by capturing and releasing the hold."
    ),
    "entry.part_exceeds": _code(409, "Part exceeds line", "More of a line is wanted than it has."),
    "ledger.period_closed": _code(
        409,
        "Period closed",
        "The ledger's closed_until is later than the time at which the entry would take effect.",
    ),
    "entry.already_reversed": _code(
        409, "Entry already reversed", "The entry has a reversal; a second is never posted."
    ),
    "account.closed": _code(409, "Account closed", "A closed account takes no lines and no changes."),
    "account.code_taken": _code(
        409, "Account code taken", "A chart-of-accounts code names one account of a ledger, also when that is closed."
    ),
    "account.not_empty": _code(
        409,
        "Account not empty",
        "An account is closed when its posted balance is zero and nothing is pending.",
    ),
    "account_category.limit_reached": _code(
        409, "Too many categories", "An account or category would stand in more categories than it may."
    ),
    "balance_monitor.archived": _code(
        409, "Monitor archived", "An archived monitor watches no more and stays as it is."
    ),
    "balance_monitor.limit_reached": _code(
        409, "Too many monitors", "The account or category has as many monitors as it may have."
    ),
    "endpoint.disabled": _code(409, "Endpoint disabled", "The endpoint is disabled; enable it first."),
    "endpoint.limit_reached": _code(409, "Too many endpoints", "The site has as many endpoints as it may have."),
    "cursor.expired": _code(
        410,
        "Cursor expired",
        "The feed no longer serves what follows this cursor. Take a snapshot by the lists, "
        "whose X-GLedger-Feed-Cursor says from where to follow, or continue from `earliest`.",
    ),
    "precondition_failed": _code(412, "Precondition failed", "The resource is at another version than If-Match names."),
    "request.too_large": _code(413, "Request too large", "The body is larger than this operation takes."),
    "unsupported_media_type": _code(415, "Unsupported media type", "Send application/json."),
    "validation.required_field_missing": _code(422, "Required field missing", "A field that must be there is not."),
    "validation.unknown_field": _code(
        422, "Unknown field", "A field or query parameter that this operation does not know."
    ),
    "validation.duplicate_field": _code(422, "Duplicate field", "A field stands twice in one JSON object."),
    "validation.invalid_type": _code(422, "Wrong type", "A value has another JSON type than it should."),
    "validation.invalid_value": _code(
        422, "Invalid value", "A value has the right type and is not one that is allowed."
    ),
    "validation.out_of_range": _code(
        422, "Out of range", "A number, a text or a list is smaller or larger than allowed."
    ),
    "validation.invalid_text": _code(422, "Invalid text", "Text holds NUL or half a surrogate pair."),
    "validation.invalid_time": _code(422, "Invalid time", "A time is RFC 3339 with an offset: 2026-11-21T10:00:00Z."),
    "validation.not_unique": _code(422, "Not unique", "Another resource has this external_id or code."),
    "validation.several_ledgers": _code(422, "Several ledgers", "All lines of an entry are in one ledger."),
    "validation.destination_not_allowed": _code(
        422,
        "Destination not allowed",
        "The URL is one that webhooks are not sent to.",
    ),
    "validation.invalid_template": _code(
        422,
        "Invalid template",
        "A template, condition or variable of an event handler cannot be as it is; `errors` says where and why.",
    ),
    "handler.none_matches": _code(422, "No handler matches", "No active event handler matches this business event."),
    "handler.several_match": _code(
        422,
        "Several handlers match",
        "More than one active event handler matches this business event; exactly one has to.",
    ),
    "handler.account_unresolved": _code(
        422,
        "Account not resolved",
        "A variable of the event handler has to find exactly one account, and finds none or several.",
    ),
    "handler.value_unusable": _code(
        422,
        "Value not usable",
        "What a template of the event handler needs is missing from the business event, or comes to no use.",
    ),
    "unbalanced_entry": _code(422, "Unbalanced entry", "Debits and credits of an entry differ."),
    "currency_mismatch": _code(
        422, "Currency mismatch", "A currency that the site defined has another exponent than is asked for."
    ),
    "fx_rate_required": _code(422, "FX rate required", "An entry over several currencies names an exchange rate."),
    "fx_rate_expired": _code(422, "FX rate expired", "The exchange rate is past its valid_until."),
    "fx_rate_mismatch": _code(422, "FX rate mismatch", "The rate is between other currencies than the lines are in."),
    "fx_amount_mismatch": _code(422, "FX amount mismatch", "The lines take another amount than the rate gives."),
    "amount_out_of_range": _code(
        422,
        "Amount out of range",
        "Amounts and totals are 1 to 9,223,372,036,854,775,807 minor units.",
    ),
    "insufficient_funds": _code(
        422,
        "Insufficient funds",
        "The available balance of an account with allow_negative: false would fall below zero.",
    ),
    "condition_failed": _code(
        422,
        "Condition failed",
        "A condition on a line does not hold, or a balance would pass a standing limit of an account or category.",
    ),
    "account_category.cycle": _code(
        422, "Category cycle", "A category would stand in itself, directly or through others."
    ),
    "account_category.mismatch": _code(
        422,
        "Does not fit the category",
        "A category takes accounts and categories of its own currency only, and of its own ledger where it has one.",
    ),
    "account.not_found": _code(422, "Account not found", "A line names an account that does not exist."),
    "idempotency.key_reused": _code(422, "Idempotency key reused", "The key was used before for another request."),
    "precondition_required": _code(428, "Precondition required", "This site demands If-Match on changes."),
    "rate_limit": _code(429, "Rate limit", "Too many requests; Retry-After says when to try again.", retryable=True),
    "internal": _code(
        500,
        "Internal error",
        "Something is wrong on our side. It is logged under the request id.",
        retryable=True,
    ),
    "overloaded": _code(503, "Overloaded", "Too many requests are waiting; nothing was done.", retryable=True),
    "unavailable": _code(
        503,
        "Unavailable",
        "A part we depend on did not answer in time. Whether a write took effect is unknown: "
        "send it again with the same idempotency key.",
        retryable=True,
    ),
}
