"""What every test may ask for: a clock, ids, a receiver, and databases of its own (`tests/databases.py`)."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.fakes.clock import FakeClock, SequentialIds
from tests.fakes.receiver import Receiver

pytest_plugins = ["tests.databases"]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let `make chaos ROUNDS=n` say how often each fault is injected, and pictures be asked for."""
    parser.addoption("--screenshots", default=None, help="folder into which the portal's journey puts its pictures")
    parser.addoption("--rounds", type=int, default=2, help="how often each test in tests/faults runs (default 2)")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that asks for `chaos_round` once for each round, numbered from 1."""
    if "chaos_round" in metafunc.fixturenames:
        metafunc.parametrize("chaos_round", range(1, metafunc.config.getoption("rounds") + 1))


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
