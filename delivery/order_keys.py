"""What has to stay in order at an endpoint: the keys of an event, by the endpoint's option. Pure.

A delivery goes when, for each of its keys, no earlier delivery of the endpoint is unfinished. So order by account holds for every
account that an entry touches, and what touches none of them does not wait. An event without such a key waits for nobody.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from typing import Final, Literal

from delivery.errors import InvalidOrdering
from engine.filters import About

Ordering = Literal["parallel", "ordered", "ordered_by"]
OnExhausted = Literal["block", "skip_and_flag"]

_METADATA: Final = "metadata."
_BY: Final = "ordered_by"


def check_ordering(ordering: str, key: str | None) -> None:
    """Accept an ordering with its key; raises InvalidOrdering where one is missing or nothing would look at it."""
    if ordering == _BY and key is None:
        raise InvalidOrdering("`ordered_by` needs a key: account, ledger, resource or metadata.NAME")
    if ordering != _BY and key is not None:
        raise InvalidOrdering(f"a key goes with `ordered_by`, not with `{ordering}`")


def order_keys(ordering: str, key: str | None, about: Callable[[], About]) -> frozenset[str]:
    """Return digests of what the event keeps in order; `about` is asked only where the ordering looks into the event."""
    if ordering == "parallel":
        return frozenset()
    if ordering == "ordered":
        return frozenset({_digest("", "")})
    return frozenset(_digest(key or "", value) for value in _values(key or "", about()))


def own_keys(replay_id: str, keys: Iterable[str]) -> frozenset[str]:
    """Return what the same keys are within a replay, whose deliveries wait for each other and for no others."""
    return frozenset(_digest(replay_id, key) for key in keys)


def _values(key: str, about: About) -> Iterable[str]:
    if key == "account":
        return about.accounts
    if key == "ledger":
        return about.ledgers
    if key == "resource":
        return [f"{about.resource_type}/{about.resource_id}"]
    name = key.removeprefix(_METADATA)
    # An update that changes the value belongs to both: to what it was and to what it is.
    found = [side.get(name) for side in about.metadata]
    return [value for value in found if isinstance(value, str)]


def _digest(key: str, value: str) -> str:
    return hashlib.blake2b(f"{key}\0{value}".encode(), digest_size=16).hexdigest()
