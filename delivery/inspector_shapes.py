"""Inspectors and what reached them, as the API shows and takes them. Pure."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from msgspec import UNSET as UNSET
from msgspec import Meta, Struct, UnsetType

KEPT_MAX: Final = 200
"""How many requests an inspector keeps, the newest ones."""
BODY_KEPT_MAX: Final = 64 * 1024
DELAY_MAX_MS: Final = 20_000

Answer = Literal[200, 410, 429, 500]
DelayMs = Annotated[int, Meta(ge=0, le=DELAY_MAX_MS, description="How long the answer is held back.")]
RetryAfter = Annotated[int, Meta(ge=1, le=3600, description="Seconds of `Retry-After`, sent with 429.")]


class InspectorCreate(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What makes an inspector; how it answers can be changed later."""

    status: Answer = 200
    retry_after_s: RetryAfter = 5
    delay_ms: DelayMs = 0


class InspectorChange(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How an inspector answers from now on; what is left out stays."""

    status: Answer | UnsetType = UNSET
    retry_after_s: RetryAfter | UnsetType = UNSET
    delay_ms: DelayMs | UnsetType = UNSET


class Inspector(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A throw-away receiver of the sandbox. Whoever knows `url` can send to it; nobody else's requests reach it."""

    id: str
    url: str
    status: int
    retry_after_s: int
    delay_ms: int
    received: int
    created_at: str
    expires_at: str


class InspectedRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A request that an inspector received; `number` counts from 1, `body` is its beginning as text, gzip undone."""

    number: int
    at: str
    headers: dict[str, str]
    body: str
    truncated: bool
    answered: int
