"""Columns as parameters: what PostgreSQL reads of an array that is sent as text is what was sent."""

from __future__ import annotations

from random import Random
from typing import Any, Final

import pytest

from engine.ids import uuid7
from engine.parameters import array, converter
from tests.databases import PostgresAddress, owner_connection

ROUNDS: Final = 400
_PIECES: Final = [
    "null",
    "NULL",
    "N",
    "",
    " ",
    ",",
    "{",
    "}",
    '"',
    "\\",
    "'",
    "\n",
    "\t",
    "a",
    "Z9",
    "ß",
    "日本",
    "{}",
    "😀",
]


def text(random: Random) -> str | None:
    """Return a text of what an array's own text gives a meaning to; sometimes none."""
    return None if random.random() < 0.1 else "".join(random.choices(_PIECES, k=random.randrange(4)))


def number(random: Random) -> int | None:
    """Return a whole number of any size that fits, or none."""
    return None if random.random() < 0.1 else random.choice([-1, 1]) * random.randrange(2 ** random.randrange(1, 64))


def id_of(random: Random) -> str | None:
    """Return an id, or none."""
    return None if random.random() < 0.1 else uuid7(random.randrange(2**40), random.randrange(2**10), 0)


@pytest.mark.parametrize(("kind", "draw"), [("text", text), ("bigint", number), ("uuid", id_of)])
async def test_what_is_sent_arrives(postgres_server: PostgresAddress, kind: str, draw: Any) -> None:
    """Row by row, whatever stands in them."""
    random = Random(kind)
    convert = converter(kind, same=False)
    assert convert is not None
    async with owner_connection(postgres_server) as connection:
        statement = await connection.prepare(f"SELECT value FROM unnest({array(1, kind)}) AS given (value)")
        for _ in range(ROUNDS):
            values = [draw(random) for _ in range(random.randrange(1, 9))]
            found = [row["value"] for row in await statement.fetch(convert(values))]
            assert [str(each) if kind == "uuid" and each else each for each in found] == values
