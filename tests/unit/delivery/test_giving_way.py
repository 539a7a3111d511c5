"""How much of its rate a replay takes: all of it where nobody feels it, little where somebody does."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from delivery.giving_way import (
    AGE_US,
    BEGINS,
    FASTER,
    LOOKS_US,
    QUIET_US,
    RESTS_US,
    SETTLES_US,
    SMALLEST,
    WORKS_US,
    GivingWay,
)

STEP_US = 100_000
PAGE_US = 10_000
TOOK_US = 5_000
CYCLE_US = WORKS_US + RESTS_US + SETTLES_US


class Machine:
    """Relays a page every hundredth of a second, and asks ten times a second; `took` is how long a page takes by the share."""

    def __init__(self, took: Callable[[float], float], page_us: int = PAGE_US) -> None:
        self.giving_way = GivingWay()
        self.took = took
        # Where all have just rested.
        self.now_us = 1000 * CYCLE_US + RESTS_US + SETTLES_US
        self._page_us = page_us
        self._dice = random.Random(7)

    def relay(self, share: float) -> None:
        """Let a step's time pass, with pages of what is live."""
        first = -self.now_us % self._page_us
        for at in range(self.now_us + first, self.now_us + STEP_US, self._page_us):
            self.giving_way.live(at)
            self.giving_way.note(round(self.took(share) * self._dice.uniform(0.8, 1.2)), at)
        self.now_us += STEP_US

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
    """From the first moment, and again when what was live has ended; then there are no rests either."""
    assert GivingWay().share(5) == 1.0
    machine = Machine(lambda share: TOOK_US * (1 + 5 * share))
    machine.work(7)
    assert machine.giving_way.share(machine.now_us) < 1
    machine.now_us += QUIET_US + PAGE_US
    for _ in range(200):
        assert machine.giving_way.share(machine.now_us) == 1.0
        machine.now_us += STEP_US


def test_replay_that_is_not_felt_takes_its_rate_but_for_rests() -> None:
    """It begins with little of it, and rests for as long as it takes to see how it would be without it."""
    machine = Machine(lambda _: TOOK_US)
    machine.rest()
    begun = machine.work(20)
    looks = LOOKS_US // STEP_US
    assert begun[:looks] == [BEGINS] * looks
    assert begun[looks] == BEGINS * FASTER
    after = machine.work(98)
    assert {0.0, 1.0} <= set(after)
    assert after.count(0.0) == pytest.approx(len(after) * (RESTS_US + SETTLES_US) / CYCLE_US, abs=2)
    assert mean(after) > 0.7 * WORKS_US / CYCLE_US


@pytest.mark.parametrize("steepness", [0.5, 2.0, 20.0])
def test_replay_that_is_felt_slows_down_until_it_is_not(steepness: float) -> None:
    """Whatever it costs others: about as much as may be felt, and it goes on."""
    machine = Machine(lambda share: TOOK_US * (1 + steepness * share))
    machine.rest()
    machine.work(30)
    shares = [share for share in machine.work(60) if share]
    assert min(shares) >= SMALLEST
    assert mean([1 + steepness * share for share in shares]) <= 1.25 + SMALLEST * steepness


def test_machine_that_is_slower_for_everybody_is_not_the_replays_doing() -> None:
    """At the next rest it is seen that it takes as long without it."""
    machine = Machine(lambda _: TOOK_US)
    machine.rest()
    machine.work(20)
    machine.took = lambda _: 3 * TOOK_US
    machine.work(CYCLE_US / 1_000_000)
    assert max(machine.work(15)) > 0.7


def test_what_was_noted_before_a_replay_began_is_how_it_is_without() -> None:
    """What is felt at once slows it down at the first look."""
    machine = Machine(lambda share: TOOK_US * (1 + 4 * share))
    machine.rest()
    shares = machine.work(3)
    assert shares[0] == BEGINS
    assert shares[-1] < BEGINS


def test_what_was_noted_long_ago_says_nothing() -> None:
    """A night in which everything was quick is no measure in the morning."""
    machine = Machine(lambda _: TOOK_US)
    machine.rest()
    machine.now_us += CYCLE_US * (1 + AGE_US // CYCLE_US)
    machine.took = lambda _: 2 * TOOK_US
    assert min(share for share in machine.work(15) if share) == BEGINS


def test_process_that_relays_nothing_itself_keeps_to_what_it_begins_with() -> None:
    """It hears that something is live, and cannot know whether the replay is felt."""
    giving_way, now_us = GivingWay(), 0
    for _ in range(1000):
        now_us += STEP_US
        giving_way.live(now_us)
        assert giving_way.share(now_us) in {0.0, BEGINS}


@pytest.mark.parametrize(("steepness", "share"), [(0, 1.0), (50, SMALLEST)])
def test_little_that_is_live_is_given_way_to_as_well(steepness: float, share: float) -> None:
    """A few events a second: it takes longer until something can be said of them."""
    machine = Machine(lambda share: TOOK_US * (1 + steepness * share), page_us=250_000)
    for _ in range(10):
        machine.rest()
    taken = machine.work(300)
    assert taken[0] == BEGINS
    assert max(taken[-100:]) == pytest.approx(share, abs=0.2)


def test_what_is_queued_ahead_is_due_before_the_next_rest() -> None:
    """Or it would be felt while it is looked how it is without; where nothing is live there are no rests."""
    machine = Machine(lambda _: TOOK_US)
    machine.rest()
    while machine.work(0.1)[0]:
        assert (machine.now_us + machine.giving_way.until_rest(machine.now_us)) % CYCLE_US == 0
    machine.now_us += QUIET_US + PAGE_US
    assert machine.giving_way.share(machine.now_us) == 1.0
    assert machine.giving_way.until_rest(machine.now_us) > CYCLE_US
