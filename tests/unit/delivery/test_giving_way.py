"""How much of its rate a replay takes: all of it where nobody feels it, little where somebody does."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from delivery.giving_way import BEGINS, FASTER, FELT, QUIET_US, RESTS_US, SETTLES_US, SMALLEST, WORKS_US, GivingWay

STEP_US = 100_000
PAGES_A_STEP = 10
LAG_US = 12_000


class Machine:
    """Relays a page every hundredth of a second, and asks ten times a second; `lag` is how long a page takes by the share."""

    def __init__(self, lag: Callable[[float], float]) -> None:
        self.giving_way = GivingWay()
        self.lag = lag
        self.now_us = 1_000_000
        self.shares: list[float] = []
        self._dice = random.Random(7)

    def relay(self, share: float) -> None:
        """Let a step's time pass, with pages of what is live."""
        for _ in range(PAGES_A_STEP):
            self.now_us += STEP_US // PAGES_A_STEP
            took = self.lag(share) * self._dice.uniform(0.8, 1.2)
            self.giving_way.note(round(took), self.now_us)

    def rest(self) -> None:
        """Let a second pass without a replay."""
        for _ in range(10):
            self.relay(0)

    def work(self, seconds: float) -> list[float]:
        """Let a replay work for so long; return the shares that it took."""
        taken = []
        for _ in range(round(seconds * 1_000_000 / STEP_US)):
            taken.append(self.giving_way.share(self.now_us))
            self.relay(taken[-1])
        return taken


def mean(shares: list[float]) -> float:
    """Return the mean."""
    return sum(shares) / len(shares)


def test_nobody_is_given_way_to_where_nothing_is_live() -> None:
    """From the first moment, and again when what was live has ended."""
    assert GivingWay().share(5) == 1.0
    machine = Machine(lambda share: LAG_US * (1 + 5 * share))
    machine.work(20)
    machine.now_us += QUIET_US
    assert machine.giving_way.share(machine.now_us) < 1
    machine.now_us += 1
    assert machine.giving_way.share(machine.now_us) == 1.0


def test_replay_that_is_not_felt_takes_its_rate_but_for_rests() -> None:
    """It begins with little of it, and rests for as long as it takes to see how it would be without it."""
    machine = Machine(lambda _: LAG_US)
    machine.rest()
    assert machine.work(20)[:24] == [BEGINS] * 20 + [BEGINS + FASTER] * 4
    after = machine.work(60)
    assert {0.0, 1.0} <= set(after)
    assert mean(after) > 0.7 * WORKS_US / (WORKS_US + RESTS_US + SETTLES_US)


@pytest.mark.parametrize("steepness", [0.5, 2.0, 20.0])
def test_replay_that_is_felt_slows_down_until_it_is_not(steepness: float) -> None:
    """Whatever it costs others: in the middle it is about what may be felt, and it goes on."""
    machine = Machine(lambda share: LAG_US * (1 + steepness * share))
    machine.rest()
    machine.work(30)
    shares = [share for share in machine.work(60) if share]
    assert min(shares) >= SMALLEST
    assert mean(shares) <= 2.5 * (FELT - 1) / steepness + SMALLEST
    assert mean([1 + steepness * share for share in shares]) <= 1 + 2.5 * (FELT - 1) + SMALLEST * steepness


def test_machine_that_is_slower_for_everybody_is_not_the_replays_doing() -> None:
    """At the next rest it is seen that it takes as long without it."""
    machine = Machine(lambda _: LAG_US)
    machine.rest()
    machine.work(20)
    machine.lag = lambda _: 3 * LAG_US
    machine.work((WORKS_US + RESTS_US + SETTLES_US) / 1_000_000)
    assert max(machine.work(15)) > 0.7


def test_what_was_noted_before_a_replay_began_is_how_it_is_without() -> None:
    """It need not rest first, and what is felt at once slows it down at once."""
    machine = Machine(lambda share: LAG_US * (1 + 4 * share))
    machine.rest()
    shares = machine.work(3)
    assert shares[0] == BEGINS
    assert shares[-1] < BEGINS


@pytest.mark.parametrize(("steepness", "share"), [(0, 1.0), (50, SMALLEST)])
def test_little_that_is_live_is_given_way_to_as_well(steepness: float, share: float) -> None:
    """One event a second: it takes longer until something can be said of it."""
    machine = Machine(lambda share: LAG_US * (1 + steepness * share))
    machine.rest()
    taken = []
    for step in range(3000):
        taken.append(machine.giving_way.share(machine.now_us))
        machine.now_us += STEP_US
        if step % 10 == 0:
            machine.giving_way.note(round(machine.lag(taken[-1])), machine.now_us)
    assert taken[0] == BEGINS
    assert max(taken[-100:]) == pytest.approx(share)
