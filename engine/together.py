"""Readings that are shared: whoever asks while others do is answered by one reading of what all of them ask for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from itertools import islice
from typing import Final, Generic, TypeVar

Question = TypeVar("Question", bound=Hashable)
Reading = TypeVar("Reading")

AT_ONCE: Final = 2
"""How many readings are under way at most: while one is read, the next one gathers whoever asks."""
QUESTIONS_MAX: Final = 250
"""How many questions a reading answers at most."""


class Together(Generic[Question, Reading]):
    """Reads for all who ask at the same time, each question once.

    Whoever comes while readings are under way waits for the next one, so that what was committed before anybody asked is always
    seen. However many ask, no more than two connections are taken.
    """

    def __init__(self, read: Callable[[list[Question]], Awaitable[Reading]]) -> None:
        """Take what reads the answers to some questions."""
        self._read = read
        self._waiting: dict[Question, list[asyncio.Future[Reading]]] = {}
        self._readers: set[asyncio.Task[None]] = set()
        self._reading = 0

    async def ask(self, question: Question) -> Reading:
        """Return a reading that answers the question, and others' too. Raises what reading raises."""
        answer: asyncio.Future[Reading] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(question, []).append(answer)
        if self._reading < AT_ONCE:
            self._reading += 1
            task = asyncio.create_task(self._answer())
            self._readers.add(task)
            task.add_done_callback(self._readers.discard)
        return await answer

    async def _answer(self) -> None:
        """Read for those who wait until nobody does."""
        while self._waiting:
            asked = {each: self._waiting[each] for each in islice(self._waiting, QUESTIONS_MAX)}
            for each in asked:
                del self._waiting[each]
            try:
                reading = await self._read(list(asked))
            except Exception as error:  # noqa: BLE001 - each who asked raises it
                for answer in _unanswered(asked):
                    answer.set_exception(error)
            else:
                for answer in _unanswered(asked):
                    answer.set_result(reading)
        # Here, where nobody can come in between: who comes later finds that nobody reads.
        self._reading -= 1


def _unanswered(asked: dict[Question, list[asyncio.Future[Reading]]]) -> list[asyncio.Future[Reading]]:
    """Return those who still wait."""
    return [answer for answers in asked.values() for answer in answers if not answer.done()]
