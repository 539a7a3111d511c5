"""`make chaos ROUNDS=100`: gateway, worker, Redis, PostgreSQL and receiver are killed and frozen in turn, under load."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.faults.conftest import LEASE_TIMEOUT_S, Stage
from tests.faults.partner import Partner
from tests.faults.rounds import Rounds, watch


async def test_whatever_dies_or_freezes_nothing_is_lost(
    stage: Stage, rounds: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """After each round every entry is in the feed once, everybody has all of it, and no attempt was made twice."""
    partner = Partner(tmp_path / "arrivals")
    await partner.start()
    try:
        wanted = {"url": partner.url, "event_types": ["entry.*"], "timeout_s": LEASE_TIMEOUT_S}
        endpoint = await stage.load.ask(stage.http, "POST", "/v1/webhook_endpoints", wanted, "partner")
        story = Rounds(
            stage=stage, partner=partner, endpoint=endpoint, counting=await watch(stage), chance=random.Random(1)
        )
        with capsys.disabled():
            print()  # noqa: T201 - what the run is for
            for number in range(1, rounds + 1):
                print(await story.run(number), flush=True)  # noqa: T201 - see above
            print(story.summary())  # noqa: T201 - see above
        await story.counting.close()
        await stage.check()
    finally:
        partner.kill()
