"""A command that no database would take fails alone: its neighbours in the batch are committed, and at once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from msgspec.structs import replace
from structlog.testing import capture_logs

from engine.commands import RecordFact
from engine.databases import Database
from engine.errors import EngineError
from tests.store.engine_stage import Stage, entry, make_stage, outcomes


@pytest.fixture(autouse=True)
def logs() -> Iterator[list[Any]]:
    """What is logged, kept instead of printed."""
    with capture_logs() as kept:
        yield list(kept)


@pytest.fixture
async def stage(site_database: Database) -> Stage:
    """A site with one ledger."""
    return await make_stage(site_database)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda command: replace(command, external_id="half a pair: \ud800"),
        lambda command: replace(command, external_id="nothing: \x00"),
        lambda command: replace(command, effective_at=2**62),
        lambda command: replace(command, effective_at=2**63),
        lambda command: replace(command, lines=()),
        lambda command: replace(command, lines=tuple(replace(each, amount=0) for each in command.lines)),
        lambda command: replace(command, description=object()),
        lambda command: RecordFact(key="k", type="t.t", resource_type="no such", resource_id="r", data=b"{}"),
    ],
    ids=["surrogate", "nul", "beyond the calendar", "beyond 64 bits", "no lines", "nothing", "no text", "no resource"],
)
async def test_bad_command_fails_alone(stage: Stage, spoil: Any) -> None:
    """Whatever says no, the driver, the encoder or the database: one answer is an error, the others are commits."""
    cash, sales = await stage.accounts("asset", "revenue")
    writer = stage.writer()
    good = entry(cash, sales, 1)
    stage.engine._writers[stage.site.id] = writer
    answers = await outcomes(*(stage.submit(each) for each in (good, spoil(good), good, good)))
    failed = [isinstance(each, BaseException) for each in answers]
    if spoil(good) != good and failed[1] is False:
        # SQLite takes a NUL; the surface refuses it before.
        assert stage.database.dialect == "sqlite"
    assert [failed[0], *failed[2:]] == [False, False, False]
    assert not isinstance(answers[1], EngineError)
    assert await stage.posted(cash) == 3 + (not failed[1])
    assert await stage.verify() is None
