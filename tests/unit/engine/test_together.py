"""Readings that are shared: few of them, each begun after whoever it answers has asked."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from engine import together
from engine.together import Together


class Source:
    """What is read: it counts its readings, and each takes until it is let go."""

    def __init__(self) -> None:
        self.begun: list[list[Any]] = []
        self.gates: list[asyncio.Future[None]] = []

    async def read(self, questions: list[Any]) -> dict[Any, int]:
        """Answer each question with the number of the reading."""
        number = len(self.begun)
        self.begun.append(questions)
        self.gates.append(asyncio.get_running_loop().create_future())
        await self.gates[number]
        return dict.fromkeys(questions, number)


async def turns() -> None:
    """Let everybody go on who can."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_who_asks_while_others_are_read_waits_for_a_later_reading() -> None:
    """What was there before it asked it sees, and all who wait share the next reading, each question once."""
    source = Source()
    shared = Together(source.read)
    first = asyncio.ensure_future(shared.ask("a"))
    await turns()
    second = asyncio.ensure_future(shared.ask("a"))
    await turns()
    later = [asyncio.ensure_future(shared.ask(each)) for each in "abab"]
    await turns()
    assert source.begun == [["a"], ["a"]]
    source.gates[1].set_result(None)
    await turns()
    assert source.begun == [["a"], ["a"], ["a", "b"]]
    source.gates[0].set_result(None)
    source.gates[2].set_result(None)
    answers = await asyncio.gather(first, second, *later)
    assert [answer[question] for answer, question in zip(answers, "aaabab", strict=True)] == [0, 1, 2, 2, 2, 2]
    again = asyncio.ensure_future(shared.ask("c"))
    await turns()
    source.gates[3].set_result(None)
    assert await again == {"c": 3}


async def test_what_fails_fails_for_those_whom_it_was_to_answer() -> None:
    """The others are answered all the same, and so are those who come later."""
    source = Source()
    shared = Together(source.read)
    asked = [asyncio.ensure_future(shared.ask(each)) for each in "aa"]
    await turns()
    other = asyncio.ensure_future(shared.ask("b"))
    await turns()
    source.gates[0].set_exception(OSError("away"))
    source.gates[1].set_result(None)
    for each in asked:
        with pytest.raises(OSError, match="away"):
            await each
    assert await other == {"b": 1}
    later = asyncio.ensure_future(shared.ask("a"))
    await turns()
    source.gates[2].set_result(None)
    assert await later == {"a": 2}


async def test_whoever_goes_away_takes_nobody_along() -> None:
    """Not those who asked the same, nor the reading."""
    source = Source()
    shared = Together(source.read)
    asked = [asyncio.ensure_future(shared.ask("a")) for _ in range(4)]
    await turns()
    for each in asked[::2]:
        each.cancel()
    for gate in source.gates:
        gate.set_result(None)
    found = await asyncio.gather(*asked, return_exceptions=True)
    assert [isinstance(each, asyncio.CancelledError) for each in found] == [True, False] * 2


async def test_a_reading_answers_so_many_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """The others wait for the next ones; in the end all are answered."""
    monkeypatch.setattr(together, "QUESTIONS_MAX", 3)
    source = Source()
    shared = Together(source.read)
    asked = [asyncio.ensure_future(shared.ask(number)) for number in range(10)]
    while not all(each.done() for each in asked):
        await turns()
        for gate in source.gates:
            if not gate.done():
                gate.set_result(None)
    assert max(map(len, source.begun)) == 3
    assert sorted(number for each in source.begun for number in each) == list(range(10))
