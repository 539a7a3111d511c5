"""A bare aiohttp loop, the baseline of delivery: posts bodies to a receiver, no database, no signature, no log.

    python -m bench.bare_sender URL CONCURRENCY FILE [SECOND_URL …]

FILE holds one body a line; every URL is sent all of them. Prints requests a second.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import uvloop


async def _lane(session: aiohttp.ClientSession, work: Iterator[tuple[str, bytes]]) -> int:
    sent = 0
    for url, body in work:
        async with session.post(url, data=body, headers={"content-type": "application/json"}) as answer:
            await answer.read()
            answer.raise_for_status()
        sent += 1
    return sent


async def send(urls: list[str], concurrency: int, bodies: list[bytes]) -> float:
    """Send every body to every URL, so many at once, and return requests a second."""
    work = ((url, body) for body in bodies for url in urls)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=concurrency)) as session:
        started = time.perf_counter()
        sent = await asyncio.gather(*(_lane(session, work) for _ in range(concurrency)))
        return sum(sent) / (time.perf_counter() - started)


if __name__ == "__main__":
    first, at_once, file, *more = sys.argv[1:]
    print(uvloop.run(send([first, *more], int(at_once), Path(file).read_bytes().splitlines())))
