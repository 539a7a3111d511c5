"""The requests that measurements post: small entries, one by one or a hundred at once, with idempotency keys."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Iterator, Sequence

import uvloop

from bench import client

BULK = 100


def entry(debit: str, credit: str, description: str | None = None) -> dict[str, object]:
    """Return the smallest entry there is."""
    return {
        "lines": [
            {"account_id": debit, "direction": "debit", "amount": 1},
            {"account_id": credit, "direction": "credit", "amount": 1},
        ],
        **({} if description is None else {"description": description}),
    }


def single(bearer: str, ids: list[str], *, hot: bool = False) -> Callable[[int], bytes]:
    """Return what makes the n-th request: an entry between two accounts, all into the same one where it is hot."""
    run = time.time_ns()
    half = len(ids) // 2
    bodies = [json.dumps(entry(ids[0] if hot else ids[number], ids[half + number])).encode() for number in range(half)]

    def make(number: int) -> bytes:
        return client.request(
            "POST",
            "/v1/entries",
            bearer,
            bodies[number % half],
            f"idempotency-key: {run}-{number}\r\n",
        )

    return make


def scheduled(bearer: str, ids: list[str]) -> Callable[[int, int], bytes]:
    """Return what makes the n-th request of a schedule: the entry says when it was to be posted."""
    half = len(ids) // 2

    def make(number: int, at_us: int) -> bytes:
        body = json.dumps(entry(ids[number % half], ids[half + number % half], f"at {at_us}")).encode()
        return client.request("POST", "/v1/entries", bearer, body, f"idempotency-key: {at_us}-{number}\r\n")

    return make


def bulk(bearer: str, ids: list[str], size: int = BULK) -> Callable[[int], bytes]:
    """Return what makes the n-th request: a hundred entries at once, unless another number is given."""
    run = time.time_ns()
    half = len(ids) // 2
    body = json.dumps({"entries": [entry(ids[each % half], ids[half + each % half]) for each in range(size)]}).encode()

    def make(number: int) -> bytes:
        return client.request("POST", "/v1/entries/batch", bearer, body, f"idempotency-key: {run}-{number}\r\n")

    return make


def post_for(port: int, connections: int, seconds: float, make: Callable[[int], bytes]) -> client.Load:
    """Post for so long in a closed loop."""
    return converse_for((port,), connections, seconds, lambda number, _: make(number))


def converse_for(
    ports: Sequence[int], connections: int, seconds: float, make: Callable[[int, bytes], bytes]
) -> client.Load:
    """Post for so long in a closed loop over one gateway or several; a request may depend on the answer before it."""
    end = time.monotonic() + seconds
    numbers: Iterator[int] = itertools.count()
    return _all_posted(
        ports, connections, lambda answer: make(next(numbers), answer) if time.monotonic() < end else None
    )


def post_some(port: int, connections: int, requests: int, make: Callable[[int], bytes]) -> client.Load:
    """Post so many requests in a closed loop."""
    numbers = iter(range(requests))

    def following(_answer: bytes) -> bytes | None:
        number = next(numbers, None)
        return None if number is None else make(number)

    return _all_posted((port,), connections, following)


def post_paced(port: int, rate_per_s: float, seconds: float, make: Callable[[int, int], bytes]) -> client.Load:
    """Post by a schedule."""
    load: client.Load = uvloop.run(client.paced("127.0.0.1", port, rate_per_s, seconds, make))
    return _without_failures(load)


def _all_posted(ports: Sequence[int], connections: int, following: Callable[[bytes], bytes | None]) -> client.Load:
    load: client.Load = uvloop.run(client.run("127.0.0.1", ports, connections, following))
    return _without_failures(load)


def _without_failures(load: client.Load) -> client.Load:
    if load.failures:
        raise SystemExit(
            f"{load.failures} requests failed: nothing was measured. The first answer:\n{load.first_failure}"
        )
    return load
