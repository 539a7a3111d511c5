"""What delivery refuses, as values: a tree of errors that carry their data and know no HTTP status.

DeliveryError
├── NotFound
│   ├── EndpointNotFound(endpoint_id)
│   ├── DeliveryNotFound(delivery_id)
│   ├── ReplayNotFound(replay_id)
│   └── InspectorNotFound(inspector_id)
├── InspectorLimitReached(limit)           a sandbox has as many inspectors as it may have
├── DeliveryNotSkippable(delivery_id, status)  one that is under way or was delivered cannot be skipped
├── EndpointDisabled(endpoint_id)          a disabled endpoint is neither replayed to, tested, paused nor resumed
├── EndpointLimitReached(limit)            a site has as many endpoints as it may have
├── InvalidEndpoint(field)                 what was sent about an endpoint cannot be kept
│   ├── InvalidUrl(reason, detail)
│   ├── UnknownEventTypes(patterns)
│   ├── ReservedHeaders(names)
│   ├── InvalidOrdering()
│   ├── InvalidFilter(pointer)
│   ├── InvalidForm()
│   └── InvalidTls(member)
├── InvalidReplay(pointer)                 what was sent about a replay selects nothing that can be replayed
├── ReplayFinished(replay_id)              a replay that was canceled, or has queued everything, cannot be steered
├── DestinationNotAllowed(host)            an address that the egress policy forbids; also an OSError
├── InvalidSecret()                        a signing secret that cannot be read
└── SignatureRejected(reason)              a message that does not verify
"""

from __future__ import annotations

from collections.abc import Sequence


class DeliveryError(Exception):
    """Any refusal of this package."""


class NotFound(DeliveryError):
    """What was asked for is not there, or belongs to another site."""


class EndpointNotFound(NotFound):
    """No such endpoint on this site."""

    def __init__(self, endpoint_id: str) -> None:
        super().__init__(f"there is no endpoint {endpoint_id}")
        self.endpoint_id = endpoint_id


class DeliveryNotFound(NotFound):
    """No such delivery on this site."""

    def __init__(self, delivery_id: str) -> None:
        super().__init__(f"there is no delivery {delivery_id}")
        self.delivery_id = delivery_id


class InspectorNotFound(NotFound):
    """No such inspector on this site, or none any more; there are none in production."""

    def __init__(self, inspector_id: str) -> None:
        super().__init__(f"there is no inspector {inspector_id}")
        self.inspector_id = inspector_id


class InspectorLimitReached(DeliveryError):
    """A sandbox may have only so many inspectors at a time."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"a sandbox has at most {limit} inspectors; each ends after a week")
        self.limit = limit


class ReplayNotFound(NotFound):
    """No such replay on this site."""

    def __init__(self, replay_id: str) -> None:
        super().__init__(f"there is no replay {replay_id}")
        self.replay_id = replay_id


class InvalidReplay(DeliveryError):
    """What was sent about a replay selects nothing that can be replayed; `pointer` names the member."""

    def __init__(self, pointer: str, detail: str) -> None:
        super().__init__(detail)
        self.pointer = pointer


class ReplayFinished(DeliveryError):
    """The replay was canceled, or has queued everything: there is nothing left to steer."""

    def __init__(self, replay_id: str, status: str) -> None:
        super().__init__(f"replay {replay_id} is {status}")
        self.replay_id = replay_id
        self.status = status


class DeliveryNotSkippable(DeliveryError):
    """The delivery is under way, or was delivered."""

    def __init__(self, delivery_id: str, status: str) -> None:
        super().__init__(f"delivery {delivery_id} is {status} and cannot be skipped")
        self.delivery_id = delivery_id
        self.status = status


class EndpointDisabled(DeliveryError):
    """The endpoint is disabled; enabling it comes first."""

    def __init__(self, endpoint_id: str) -> None:
        super().__init__(f"endpoint {endpoint_id} is disabled; enable it first")
        self.endpoint_id = endpoint_id


class EndpointLimitReached(DeliveryError):
    """The site has as many endpoints as it may have."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"a site may have {limit} endpoints")
        self.limit = limit


class InvalidEndpoint(DeliveryError):
    """What was sent about an endpoint cannot be kept; `field` names the member."""

    def __init__(self, field: str, detail: str) -> None:
        super().__init__(detail)
        self.field = field
        self.detail = detail


class InvalidUrl(InvalidEndpoint):
    """The URL is none that a webhook may be sent to.

    `reason` is one of length, syntax, scheme, userinfo, fragment, host, port, own_host, address.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__("url", detail)
        self.reason = reason


class UnknownEventTypes(InvalidEndpoint):
    """Some patterns match no event type that exists."""

    def __init__(self, patterns: Sequence[str]) -> None:
        super().__init__("event_types", f"no event type matches {', '.join(patterns)}")
        self.patterns = tuple(patterns)


class ReservedHeaders(InvalidEndpoint):
    """Some custom headers have names that the sender sets itself."""

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__("headers", f"these header names are reserved: {', '.join(names)}")
        self.names = tuple(names)


class InvalidOrdering(InvalidEndpoint):
    """The ordering and its key do not go together."""

    def __init__(self, detail: str) -> None:
        super().__init__("ordering_key", detail)


class InvalidFilter(InvalidEndpoint):
    """A filter says nothing that could be evaluated, or more than it may; `pointer` names the condition."""

    def __init__(self, pointer: str, detail: str) -> None:
        super().__init__("filter", detail)
        self.pointer = pointer


class InvalidForm(InvalidEndpoint):
    """Two options of how events are to be sent do not go together."""


class InvalidTls(InvalidEndpoint):
    """A certificate or a key cannot be used; `member` is certificate, private_key or ca."""

    def __init__(self, member: str, detail: str) -> None:
        super().__init__("tls", detail)
        self.member = member


class DestinationNotAllowed(DeliveryError, OSError):
    """The destination's address is one that the egress policy forbids. An OSError, so that a connector passes it on."""

    def __init__(self, host: str) -> None:
        super().__init__(f"{host} is not an allowed destination")
        self.host = host


class InvalidSecret(DeliveryError):
    """The signing secret is empty or is not base64."""


class SignatureRejected(DeliveryError):
    """The message does not verify; `reason` is one of header_missing, timestamp_invalid, timestamp_outside, no_match."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the signature is rejected: {reason}")
        self.reason = reason
