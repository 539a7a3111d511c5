"""What a worker tidies up, seen through the API that keeps working meanwhile."""

from __future__ import annotations

import httpx2

from engine.idempotency import RETENTION_DAYS_MAX
from gledger.housekeeping import forget_keys, rotate_signing_keys
from gledger.parts import Parts
from tests.api.stage import OpenSite

_DAY_US = 86_400_000_000


class _Later:
    """The process's clock, so many days on."""

    def __init__(self, parts: Parts, days: int) -> None:
        self._parts = parts
        self._days = days

    def now_us(self) -> int:
        return self._parts.clock.now_us() + self._days * _DAY_US


def _later(parts: Parts, days: int) -> Parts:
    values = {name: getattr(parts, name) for name in Parts.__slots__}
    return Parts(**{**values, "clock": _Later(parts, days)})


async def test_an_old_idempotency_record_is_forgotten_and_a_fresh_one_is_kept(parts: Parts, site: OpenSite) -> None:
    """A key is remembered for its retention and no longer."""
    body = {"name": "Kept"}
    made = await site.client.post("/v1/ledgers", json=body, headers={"idempotency-key": "k"})
    assert await forget_keys(parts, site.site) == 0
    again = await site.client.post("/v1/ledgers", json=body, headers={"idempotency-key": "k"})
    assert (again.json(), again.headers["idempotent-replayed"]) == (made.json(), "true")
    assert await forget_keys(_later(parts, parts.settings.idempotency_days + 2), site.site) == 1
    assert parts.settings.idempotency_days <= RETENTION_DAYS_MAX


async def test_signing_keys_are_rotated_when_they_are_old_and_old_tokens_stay_valid(
    parts: Parts,
    site: OpenSite,
    anonymous: httpx2.AsyncClient,
) -> None:
    """A key that served its time is replaced; tokens signed before are good until they expire."""
    assert await rotate_signing_keys(parts) == []
    before = {key["kid"] for key in (await anonymous.get("/.well-known/jwks.json")).json()["keys"]}
    assert (await site.client.get("/v1/ledgers")).status_code == 200
    rotated = [
        await parts.authority.keyring.rotate_signing_key("sandbox", now_us=parts.clock.now_us()),
    ]
    after = {key["kid"] for key in (await anonymous.get("/.well-known/jwks.json")).json()["keys"]}
    assert set(rotated) <= after
    assert before <= after
    assert (await site.client.get("/v1/ledgers")).status_code == 200
