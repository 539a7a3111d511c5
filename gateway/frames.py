"""The words of the stream protocol: what a server says beside events, and what a client may say on a WebSocket.

The same objects are `data:` of server-sent events and messages of a WebSocket. AsyncAPI is made from these shapes.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from msgspec import UNSET, Meta, Struct, UnsetType, field

from gateway.bodies import Id, MetadataKey, MetadataValue

Cursor = Annotated[str, Meta(min_length=1, max_length=200, pattern=r"^[A-Za-z0-9._-]+$(?!\n)")]
Name = Annotated[
    str, Meta(pattern=r"^[A-Za-z0-9._-]{1,64}$(?!\n)", description="A subscription's name, which the client chooses.")
]
Cursors = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=1_000,
        pattern=r"^[A-Za-z0-9._-]+$(?!\n)",
        description="A cursor. Where a connection of several feeds ends, theirs in the order of their tickets, joined by `_`.",
    ),
]
FeedName = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9._-]{1,80}$(?!\n)",
        description="On a WebSocket the name that the client chose, in server-sent events of several feeds "
        "`ORGANIZATION.ENVIRONMENT`.",
    ),
]
TypePattern = Annotated[
    str, Meta(min_length=1, max_length=60, description="An event type; `entry.*` is a family, `*` is all.")
]
ResourceType = Annotated[str, Meta(pattern=r"^[a-z_]{1,40}$(?!\n)", description="As in the envelope's `resource`.")]
Window = Annotated[
    int, Meta(ge=1, le=10_000, description="At most so many events are sent that were not acknowledged.")
]
Instant = Annotated[str, Meta(max_length=40, extra_json_schema={"format": "date-time"})]
Credential = Annotated[str, Meta(min_length=1, max_length=8_000)]

FILTER_PAIRS_MAX: Final = 10
SNAPSHOT: Final = (
    "Read what you need from the lists, whose X-GLedger-Feed-Cursor says from where to follow; this stream goes on from "
    "the feed's head, so pass over events up to that cursor. Or follow again from `earliest`."
)


class StreamFilter(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Which events are wanted; everything that is given must hold."""

    types: Annotated[list[TypePattern], Meta(min_length=1, max_length=50)] | None = None
    resource_type: ResourceType | None = None
    resource_id: Id | None = None
    account_id: Id | None = None
    ledger_id: Id | None = None
    metadata: Annotated[dict[MetadataKey, MetadataValue], Meta(max_length=FILTER_PAIRS_MAX)] = {}


class ServerFrame(Struct, frozen=True, kw_only=True, tag_field="type"):
    """What a server says; `subscription` is missing where it is about the stream that the connection was opened with."""

    subscription: FeedName | UnsetType = UNSET


class Ready(ServerFrame, frozen=True, kw_only=True, tag="ready"):
    """A stream begins after `cursor`; the feed ends at `head` now; the credential is good until `expires_at`."""

    cursor: Cursor
    head: Cursor
    organization: str
    environment: Literal["sandbox", "production"]
    expires_at: Instant


class Checkpoint(ServerFrame, frozen=True, kw_only=True, tag="checkpoint"):
    """The stream has come this far: store the cursor once everything before it is done."""

    cursor: Cursor


class Reset(ServerFrame, frozen=True, kw_only=True, tag="reset"):
    """What follows the given cursor cannot be served; the stream goes on from the head, and what is between is missing."""

    reason: Literal["cursor.expired", "cursor.invalid"]
    cursor: Cursor
    earliest: Cursor
    head: Cursor
    snapshot: str


class Expiring(ServerFrame, frozen=True, kw_only=True, tag="expiring"):
    """The credential runs out at this time, and the stream with it: refresh it, or come back with a new one."""

    expires_at: Instant
    cursor: Cursor


ClosingReason = Literal["draining", "lifetime", "unavailable", "auth.expired", "auth.revoked"]


class Closing(ServerFrame, frozen=True, kw_only=True, tag="closing"):
    """The stream ends, and why; `reconnect` says whether the same request is of use, `retry_ms` after how long."""

    reason: ClosingReason
    reconnect: bool
    cursor: Cursors
    retry_ms: int


class Unsubscribed(ServerFrame, frozen=True, kw_only=True, tag="unsubscribed"):
    """A subscription ended as asked, at this cursor."""

    cursor: Cursor


class Refreshed(ServerFrame, frozen=True, kw_only=True, tag="refreshed"):
    """A new credential is in force until this time."""

    expires_at: Instant


class Pong(ServerFrame, frozen=True, kw_only=True, tag="pong"):
    """The answer to a ping."""


class ErrorFault(Struct, frozen=True):
    """One thing that is wrong: `pointer` is a JSON pointer into the message."""

    code: str
    pointer: str
    detail: str


class Error(ServerFrame, frozen=True, kw_only=True, tag="error"):
    """A message of the client's was refused and changed nothing; every stream goes on."""

    code: str
    detail: str
    errors: list[ErrorFault]
    earliest: Cursor | UnsetType = UNSET
    head: Cursor | UnsetType = UNSET


class ClientFrame(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, tag_field="type"):
    """What a client may say."""


class Subscribe(ClientFrame, frozen=True, kw_only=True, omit_defaults=True, tag="subscribe"):
    """Follow a feed besides the one the connection was opened with: another filter, or another site by its own credential."""

    subscription: Name
    cursor: Cursor | None = None
    from_: Annotated[str, Meta(max_length=40)] | None = field(default=None, name="from")
    filter: StreamFilter = StreamFilter()
    window: Window | None = None
    on_expired: Literal["error", "reset"] = "error"
    ticket: Credential | None = None
    token: Credential | None = None


class Unsubscribe(ClientFrame, frozen=True, kw_only=True, omit_defaults=True, tag="unsubscribe"):
    """End a subscription; without a name, the stream that the connection was opened with."""

    subscription: Name | None = None


class Ack(ClientFrame, frozen=True, kw_only=True, omit_defaults=True, tag="ack"):
    """Everything up to the cursor of this checkpoint is done; only a stream with a window waits for it."""

    cursor: Cursor
    subscription: Name | None = None


class Refresh(ClientFrame, frozen=True, kw_only=True, omit_defaults=True, tag="refresh"):
    """Go on with a new credential of the same site; of a subscription, or of the connection and all that share its own."""

    subscription: Name | None = None
    ticket: Credential | None = None
    token: Credential | None = None


class Ping(ClientFrame, frozen=True, kw_only=True, omit_defaults=True, tag="ping"):
    """Ask whether anybody is there."""


SERVER_FRAMES: Final = (Ready, Checkpoint, Reset, Expiring, Closing, Unsubscribed, Refreshed, Pong, Error)
CLIENT_FRAMES: Final = (Subscribe, Unsubscribe, Ack, Refresh, Ping)
AnyClientFrame = Subscribe | Unsubscribe | Ack | Refresh | Ping
