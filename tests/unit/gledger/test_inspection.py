"""Which finding counts when several look at once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from engine.finding import Finding
from engine.pieces import Ids, Piece, Rest, Sequences
from gledger.inspection import Look, first_of

PIECES: Sequence[Piece] = (Sequences(0, 1), Sequences(1, 2), Sequences(2), Rest("beside"), Ids("accounts"))


def finding(of: Piece) -> Finding:
    """Return what is wrong with a piece, told apart from the others."""
    return Finding(table="t", row=str(of), detail="d")


async def test_first_piece_counts_whoever_is_done_first() -> None:
    """What is found last is told all the same where its piece comes before."""
    later = asyncio.Event()
    looked: list[Piece] = []

    async def look(piece: Piece) -> Finding | None:
        looked.append(piece)
        if piece == PIECES[0]:
            await later.wait()
        if piece == PIECES[1]:
            later.set()
        return finding(piece)

    assert await first_of(PIECES, [look, look]) == finding(PIECES[0])
    assert looked == [PIECES[3], *PIECES[:2]], "the large one first, and none behind what was found"


async def test_all_is_looked_at_where_nothing_is_wrong() -> None:
    """Every piece once, by however many."""
    looked: list[Piece] = []

    async def look(piece: Piece) -> None:
        looked.append(piece)
        await asyncio.sleep(0)

    looks: list[Look] = [look] * 3
    assert await first_of(PIECES, looks) is None
    assert sorted(map(str, looked)) == sorted(map(str, PIECES))


async def test_one_that_fails_ends_the_others() -> None:
    """The failure is told, and nobody goes on looking."""
    ended: list[Piece] = []

    async def look(piece: Piece) -> None:
        if piece == PIECES[0]:
            raise ConnectionError
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(piece)

    with pytest.raises(ConnectionError):
        await first_of(PIECES, [look, look])
    assert ended == [PIECES[3]]
