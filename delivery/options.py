"""What the options of an endpoint may be: their types, their bounds, and what they mean. Pure."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from msgspec import Meta

RETRY_DELAY_MAX_S: Final = 7 * 24 * 3600

_TEXT: Final = r"^[^\x00]*$"
# A `$` alone would let a line end slip in behind the value.
_HEADER_NAME: Final = r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$(?!\n)"
_HEADER_VALUE: Final = r"^[\x20-\x7e\t]*$(?!\n)"
_PATTERN: Final = r"^(\*|[a-z_]+\.(\*|[a-z_]+))$(?!\n)"

Url = Annotated[str, Meta(min_length=1, max_length=2048, pattern=_TEXT, description="Where events are sent.")]
EventPattern = Annotated[
    str,
    Meta(max_length=40, pattern=_PATTERN, description="An event type, a family (`entry.*`), or `*`."),
]
EventPatterns = Annotated[list[EventPattern], Meta(min_length=1, max_length=100)]
Description = Annotated[str, Meta(max_length=500, pattern=_TEXT)]
Metadata = Annotated[
    dict[
        Annotated[str, Meta(min_length=1, max_length=100, pattern=_TEXT)],
        Annotated[str, Meta(max_length=500, pattern=_TEXT)],
    ],
    Meta(max_length=50),
]
Headers = Annotated[
    dict[
        Annotated[str, Meta(min_length=1, max_length=100, pattern=_HEADER_NAME)],
        Annotated[str, Meta(max_length=1000, pattern=_HEADER_VALUE)],
    ],
    Meta(max_length=20, description="Sent with every request; values are never shown again."),
]
TimeoutSeconds = Annotated[int, Meta(ge=1, le=30, description="Seconds until an attempt is given up.")]
MaxInFlight = Annotated[int, Meta(ge=1, le=256, description="How many requests may be under way at once.")]
RetrySchedule = Annotated[
    list[Annotated[int, Meta(ge=0, le=RETRY_DELAY_MAX_S)]],
    Meta(min_length=1, max_length=32, description="Seconds to wait before each attempt, the first one included."),
]

Ordering = Annotated[
    Literal["parallel", "ordered", "ordered_by"],
    Meta(
        description="`parallel`: as fast as they come. `ordered`: by endpoint sequence, one in flight. `ordered_by`: by endpoint "
        "sequence among those that share the `ordering_key`. A replay of many has the same order in itself, beside what is new.",
    ),
]
OrderingKey = Annotated[
    str,
    Meta(
        max_length=120,
        pattern=r"^(account|ledger|resource|metadata\.[^\x00]{1,100})$(?!\n)",
        description="What `ordered_by` goes by: `account` (each one that the event touches), `ledger`, `resource`, or "
        "`metadata.NAME`. An event without it waits for nobody.",
    ),
]
OnExhausted = Annotated[
    Literal["block", "skip_and_flag"],
    Meta(
        description="What an exhausted delivery does where order is kept: `block` those behind it until it is replayed with "
        "success or skipped, or let them pass and count it in `passed_over`.",
    ),
]
RateLimit = Annotated[int, Meta(ge=1, le=1000, description="Requests a second at most, evenly spaced.")]

OVERLAP_MAX_S: Final = 30 * 24 * 3600
Signature = Literal["v1", "v1a"]

DisableAfter = Annotated[
    int,
    Meta(
        ge=3_600,
        le=365 * 86_400,
        description="Seconds of failing without a success after which the endpoint is disabled.",
    ),
]

Pem = Annotated[str, Meta(min_length=1, max_length=32_768, pattern=r"^[\x09\x0a\x0d\x20-\x7e]*$(?!\n)")]
PrivateKeyPem = Annotated[str, Meta(min_length=1, max_length=8_192, pattern=r"^[\x09\x0a\x0d\x20-\x7e]*$(?!\n)")]
"""An RSA key of 8,192 bits fits; checking a larger one would take its time."""
