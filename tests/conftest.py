"""What every test may ask for: a clock, ids, a receiver, and databases of its own (`tests/databases.py`)."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.fakes.clock import FakeClock, SequentialIds
from tests.fakes.receiver import Receiver

pytest_plugins = ["tests.databases"]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let `make chaos ROUNDS=n` say for how many rounds processes are harmed, and pictures be asked for."""
    parser.addoption("--screenshots", default=None, help="folder into which the portal's journey puts its pictures")
    parser.addoption(
        "--rounds", type=int, default=10, help="rounds in tests/faults/test_rounds.py (10: one of each fault)"
    )


@pytest.fixture
def clock() -> FakeClock:
    """A clock that stands still until the test moves it."""
    return FakeClock()


@pytest.fixture
def ids() -> SequentialIds:
    """Ids in order, the same in every run."""
    return SequentialIds()


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """A partner's receiver that listens."""
    async with Receiver() as server:
        yield server
