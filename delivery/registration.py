"""What a registration may say about an endpoint, what it means where it says nothing, and what a change makes of it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import msgspec
from msgspec import UNSET

from delivery.breaker import Circuit
from delivery.conditions import check_filter
from delivery.egress import EgressPolicy, check_url
from delivery.failing import DISABLE_AFTER_S, Policy
from delivery.forms import Form, check_form
from delivery.message import check_header_names
from delivery.order_keys import check_ordering
from delivery.retry import DEFAULT_SCHEDULE_S
from delivery.rows import EndpointRow, Fact
from delivery.shapes import Endpoint, EndpointChange, EndpointCreate, encode
from delivery.subscriptions import validate_patterns


@dataclass(frozen=True, slots=True, kw_only=True)
class Defaults:
    """What an endpoint gets where its registration says nothing, and how long a replaced secret goes on signing."""

    timeout_s: int = 15
    max_in_flight: int = 16
    retry_schedule_s: tuple[int, ...] = DEFAULT_SCHEDULE_S
    secret_overlap_s: int = 86_400
    disable_after_s: int = DISABLE_AFTER_S

    def policy(self) -> Policy:
        """Return what applies to endpoints that say nothing else."""
        return Policy(retry_schedule_s=self.retry_schedule_s, disable_after_s=self.disable_after_s)


def check_registration(egress: EgressPolicy, given: EndpointCreate | EndpointChange) -> None:
    """Accept what is given of an endpoint; raises InvalidUrl, UnknownEventTypes, ReservedHeaders, InvalidFilter."""
    if given.url is not UNSET:
        check_url(given.url, egress)
    if given.event_types is not UNSET:
        validate_patterns(given.event_types)
    check_header_names({} if given.headers is UNSET else given.headers)
    if given.filter is not UNSET and given.filter is not None:
        check_filter(given.filter)
    if isinstance(given, EndpointCreate):
        check_ordering(given.ordering, given.ordering_key)


def new_endpoint(draft: EndpointCreate, endpoint_id: str, defaults: Defaults, now_us: int) -> EndpointRow:
    """Return an endpoint as it begins, but for what is sealed elsewhere; raises InvalidForm."""
    return EndpointRow(
        id=endpoint_id,
        url=draft.url,
        description=draft.description,
        metadata=draft.metadata,
        event_types=tuple(draft.event_types),
        filter=draft.filter,
        form=merged_form(Form(), draft),
        header_names=(),
        headers_sealed=None,
        tls=None,
        tls_key_sealed=None,
        secrets=(),
        timeout_s=draft.timeout_s or defaults.timeout_s,
        max_in_flight=draft.max_in_flight or defaults.max_in_flight,
        ordering=draft.ordering,
        ordering_key=draft.ordering_key,
        on_exhausted=draft.on_exhausted,
        rate_limit=draft.rate_limit,
        disable_after_s=draft.disable_after_s,
        retry_schedule=None if draft.retry_schedule is None else tuple(draft.retry_schedule),
        status="active",
        status_reason=None,
        last_sequence=0,
        failing_since=None,
        exhausted_since=0,
        warned=0,
        circuit=Circuit(),
        ordering_from=0,
        passed_over=0,
        rate_next_at=None,
        lock_version=1,
        created_at=now_us,
        updated_at=now_us,
    )


def merged_form(form: Form, given: EndpointCreate | EndpointChange) -> Form:
    """Return how events are sent with what is given changed, `null` back at the default; raises InvalidForm."""
    wanted = {name: getattr(given, name) for name in Form.__struct_fields__ if getattr(given, name) is not UNSET}
    defaults = msgspec.structs.asdict(Form())
    changed = msgspec.structs.replace(
        form, **{name: defaults[name] if value is None else value for name, value in wanted.items()}
    )
    check_form(changed)
    return changed


def merge_change(row: EndpointRow, change: EndpointChange, defaults: Defaults) -> EndpointRow:
    """Return the endpoint with what is given changed, but for its headers, which are sealed elsewhere.

    Raises InvalidOrdering where ordering and key do not go together.
    """
    if change.url is not UNSET:
        # How another address answered says nothing about this one.
        row = replace(row, url=change.url, circuit=row.circuit if change.url == row.url else Circuit())
    if change.event_types is not UNSET:
        row = replace(row, event_types=tuple(change.event_types))
    if change.description is not UNSET:
        row = replace(row, description=change.description)
    if change.metadata is not UNSET:
        row = replace(row, metadata=change.metadata)
    if change.timeout_s is not UNSET:
        row = replace(row, timeout_s=change.timeout_s or defaults.timeout_s)
    if change.max_in_flight is not UNSET:
        row = replace(row, max_in_flight=change.max_in_flight or defaults.max_in_flight)
    if change.retry_schedule is not UNSET:
        row = replace(row, retry_schedule=tuple(change.retry_schedule or ()) or None)
    if change.disable_after_s is not UNSET:
        row = replace(row, disable_after_s=change.disable_after_s)
    if change.rate_limit is not UNSET:
        row = replace(row, rate_limit=change.rate_limit)
    if change.filter is not UNSET:
        row = replace(row, filter=change.filter)
    return _merge_ordering(replace(row, form=merged_form(row.form, change)), change)


def _merge_ordering(row: EndpointRow, change: EndpointChange) -> EndpointRow:
    if change.ordering is not UNSET:
        # Another ordering brings its own key, or has none.
        row = replace(row, ordering=change.ordering, ordering_key=None)
    if change.ordering_key is not UNSET:
        row = replace(row, ordering_key=change.ordering_key)
    if change.on_exhausted is not UNSET:
        row = replace(row, on_exhausted=change.on_exhausted)
    check_ordering(row.ordering, row.ordering_key)
    return row


def endpoint_fact(event_type: str, row: EndpointRow, once: str, shown: Endpoint) -> Fact:
    """Return a fact about an endpoint; `once` makes its key unique."""
    return Fact(
        key=f"{event_type}:{row.id}:{once}",
        type=event_type,
        resource_type="endpoint",
        resource_id=row.id,
        data=encode(shown),
    )
