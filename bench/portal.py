"""The portal with a million deliveries: when each page's first paint is, beside the same page of an empty site.

    python -m bench.portal [--deliveries 1000000] [--visits 7] [--only deliveries]

The entries are posted by the engine and become deliveries by the relay, on PostgreSQL, to three endpoints; then what became of them is
written by SQL, as if they had been sent: nearly all delivered, one in a hundred given up, a few waiting. A browser without
a window opens each page, signed in, on the cores that serve it. Printed are medians of the first contentful paint and of
the server's own time (from the request to the first byte); first of a page of one word: what the machine takes to paint at all.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

import asyncpg
from playwright.async_api import Page

from bench.ground import Ground, Serving, accounts, call, ground, token
from bench.table import Line, Target, show
from delivery.relay import Relay
from engine.commands import LineDraft, PostBatch, PostEntry
from engine.databases import Site
from gledger.parts import open_parts
from gledger.settings import Settings
from tests.browser import browsing, window

ENDPOINTS: Final = 3
BATCH: Final = 1000
FIRST_PAINT_MS: Final = 200.0
_STATES: Final = ("pending", "in_flight", "retrying", "delivered", "exhausted", "skipped")
_ANSWERS: Final = ("2xx", "3xx", "4xx", "5xx", "none")

# Of a thousand deliveries: ten given up, five that wait for another attempt, two for their first, two skipped, one under way.
_PAINT: Final = """
UPDATE deliveries SET
  state = c.state, last_status = c.status, last_error = c.error, attempts = c.attempts, due_at = c.due, lane = c.lane,
  delivered_at = CASE c.state WHEN 'delivered' THEN created_at + 40000 END
FROM (VALUES
  (0, 4, 'exhausted', 500, 'http_5xx', 10, NULL::bigint, 2), (5, 7, 'exhausted', 404, 'http_4xx', 10, NULL, 2),
  (8, 9, 'exhausted', NULL, 'timeout', 10, NULL, 2), (10, 14, 'retrying', 503, 'http_5xx', 2, 9000000000000000, 2),
  (15, 16, 'pending', NULL, NULL, 0, 9000000000000000, 1), (17, 18, 'skipped', NULL, NULL, 0, NULL, 1),
  (19, 19, 'in_flight', NULL, NULL, 1, 9000000000000000, 0), (20, 999, 'delivered', 200, NULL, 1, NULL, 1)
) AS c (first, last, state, status, error, attempts, due, lane)
WHERE site_id = $1 AND endpoint_sequence % 1000 BETWEEN c.first AND c.last
"""
_ATTEMPTS: Final = """
INSERT INTO attempts (site_id, delivery_id, number, trigger, at, duration_ms, request, response, error_class)
SELECT site_id, id, n, 'scheduled', created_at + n * 1000000, 12, convert_to($2, 'UTF8'), convert_to($3, 'UTF8'), last_error
FROM deliveries, generate_series(1, attempts) AS n WHERE site_id = $1
"""
_TALLIES: Final = """
INSERT INTO delivery_tallies SELECT $1, hour, id, 40000, 39000, {classes}
FROM endpoints, generate_series($2::int - 23, $2::int) AS hour WHERE site_id = $1
ON CONFLICT DO NOTHING
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Who signs in, and the pages of their site by name."""

    email: str
    password: str
    pages: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """Milliseconds of one page: to its first paint, and to the first byte of it."""

    paint: float
    server: float


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--deliveries", type=int, default=1_000_000, help="how many, over three endpoints")
    parser.add_argument("--visits", type=int, default=7, help="how often each page is opened")
    parser.add_argument("--only", default="", help="only pages whose name has this in it")
    given = parser.parse_args()
    with ground(RATE_LIMIT_PER_S="0") as base, base.gateway() as serving:
        empty = _bootstrap(base, "empty")
        full = {**base.credentials, "organization": "bench"}
        for each in (full, empty):
            _furnish(serving, each)
        asyncio.run(_fill(base, full, given.deliveries))
        asyncio.run(_fill(base, empty, 1))
        people = [_person(serving, each) for each in (full, empty)]
        found = asyncio.run(_visit(serving, people, given.visits, given.only))
    show(f"The portal with {given.deliveries:,} deliveries, beside an empty site", found)


def _bootstrap(base: Ground, organization: str) -> dict[str, Any]:
    """Make another organization."""
    command = [sys.executable, "-m", "gledger", "bootstrap", "--organization", organization]
    made = subprocess.run(
        [*command, "--environment", "production", "--json"], env=base.environment, check=True, stdout=subprocess.PIPE
    )
    found: dict[str, Any] = json.loads(made.stdout)
    return found


def _furnish(serving: Serving, credentials: dict[str, Any]) -> None:
    """Make two accounts and the endpoints; nothing sends to them."""
    bearer = token(serving.port, credentials)
    credentials["accounts"] = accounts(serving.port, bearer, 2)
    for number in range(ENDPOINTS):
        endpoint = {"url": f"http://127.0.0.1:9/partner-{number}", "event_types": ["entry.*"]}
        call(serving.port, bearer, "POST", "/v1/webhook_endpoints", endpoint)


async def _fill(base: Ground, credentials: dict[str, Any], deliveries: int) -> None:
    """Post entries until there are so many deliveries, and write what became of them."""
    started = time.perf_counter()
    async with open_parts(Settings.from_env(base.environment)) as parts:
        [site] = [each for each in await parts.sites() if each.organization == credentials["organization"]]
        relay = Relay(parts.databases, clock=parts.clock, ids=parts.ids)
        left = -(-deliveries // ENDPOINTS)
        debit, credit = credentials["accounts"]
        lines = (_line(debit, "debit"), _line(credit, "credit"))
        while left:
            count = min(BATCH, left)
            await parts.engine.submit(site, PostBatch(entries=(PostEntry(lines=lines, description="Top up"),) * count))
            left -= count
        while (await relay.run(site)).behind:
            pass
    posted_s = time.perf_counter() - started
    await _paint(base, site)
    print(f"{site.organization}: {deliveries:,} deliveries in {posted_s:.0f} s", file=sys.stderr, flush=True)


def _line(account: str, direction: Any) -> LineDraft:
    return LineDraft(account=account, direction=direction, amount=100, metadata={})


async def _paint(base: Ground, site: Site) -> None:
    """Write what became of the deliveries."""
    request = {
        "url": "http://127.0.0.1:9/partner-0",
        "headers": {"webhook-id": "x", "webhook-timestamp": "1", "webhook-signature": "v1,x"},
        "event": "/v1/events/x",
        "payload": "full",
        "body_bytes": 700,
        "body_sha256": "0" * 64,
    }
    response = {"status": 200, "headers": {"content-type": "application/json"}, "body": "{}", "truncated": False}
    connection = await asyncpg.connect(base.postgres.url("gledger").replace("+asyncpg", ""))
    hour = time.time_ns() // 3_600_000_000_000
    columns = await connection.fetchval(
        "SELECT count(*) - 5 FROM information_schema.columns WHERE table_name = 'delivery_tallies'"
    )
    classes = ", ".join(["38000", *["0"] * (columns - 2), "2000"])
    try:
        await connection.execute(_PAINT, site.id)
        await connection.execute(_ATTEMPTS, site.id, json.dumps(request), json.dumps(response))
        await connection.execute(_TALLIES.format(classes=classes), site.id, hour)
        await connection.execute("VACUUM ANALYZE")
    finally:
        await connection.close()


def _person(serving: Serving, credentials: dict[str, Any]) -> Person:
    """Return who signs in, and every page of their site with ids that are there."""
    bearer = token(serving.port, credentials)

    def first(path: str) -> dict[str, Any]:
        found: dict[str, Any] = call(serving.port, bearer, "GET", f"{path}{'&' if '?' in path else '?'}limit=1")
        return dict(found["data"][0])

    delivery, entry, event = first("/v1/deliveries"), first("/v1/entries"), first("/v1/events?types=entry.posted")
    endpoint, account = delivery["endpoint_id"], credentials["accounts"][0]
    top = delivery["endpoint_sequence"] * ENDPOINTS
    filters: dict[str, dict[str, str]] = {
        **{f"state {each}": {"status": each} for each in _STATES},
        **{f"last answer {each}": {"last_response": each} for each in _ANSWERS},
        **{f"made within {each}": {"since": each} for each in ("1h", "24h", "7d")},
        "endpoint": {"endpoint_id": endpoint},
        "endpoint, exhausted": {"endpoint_id": endpoint, "status": "exhausted"},
        "endpoint, last answer 4xx": {"endpoint_id": endpoint, "last_response": "4xx"},
        "last error": {"last_error": "timeout"},
        "event type": {"event_type": "entry.posted"},
        "event type of none": {"event_type": "hold.expired"},
        "endpoint, event type of none": {"endpoint_id": endpoint, "event_type": "hold.expired"},
        "event's id": {"q": event["id"]},
        "correlation id of none": {"q": "nobody"},
        "the oldest sequences": {"sequence_to": "50"},
        "sequences in the middle": {"sequence_from": str(top // 6 or 1), "sequence_to": str(top // 6 + 50)},
        "before a year": {"to": "2020-01-01T00:00:00"},
        "sequence of none, exhausted": {"sequence_from": "100000000", "status": "exhausted"},
    }
    pages = {
        "home": "",
        "deliveries": "/deliveries",
        **{f"deliveries: {name}": f"/deliveries?{urlencode(given)}" for name, given in filters.items()},
        "a delivery": f"/deliveries/{delivery['id']}",
        "endpoints": "/endpoints",
        "an endpoint": f"/endpoints/{endpoint}",
        "events": "/events",
        "events: type": "/events?type=entry.posted",
        "events: type of none": "/events?type=hold.expired",
        "events: resource": f"/events?resource_id={entry['id']}",
        "an event": f"/events/{event['id']}",
        "ledgers": "/books",
        "a ledger": f"/books/{entry['ledger_id']}",
        "accounts": "/accounts",
        "an account": f"/accounts/{account}",
        "entries": "/entries",
        "an entry": f"/entries/{entry['id']}",
        "holds": "/holds",
        "replays": "/replays",
        "stream console": "/console",
        "keys and clients": "/keys",
        "inspectors": "/inspectors",
        "API explorer": "/explorer",
    }
    return Person(email=credentials["admin_email"], password=credentials["admin_password"], pages=pages)


async def _visit(serving: Serving, people: list[Person], visits: int, only: str) -> list[Line]:
    """Open every page of both, in turns; return a line for each."""
    os.environ.pop("CONFORMANCE_ALL", None)
    url = f"http://127.0.0.1:{serving.port}"
    async with browsing() as browser, window(browser, url) as full, window(browser, url) as empty:
        for person, seen in zip(people, (full, empty), strict=True):
            await seen.sign_in(person.email, person.password)
        nothing = [[await _look(seen.page, f"{url}/healthz") for _ in range(visits)] for seen in (full, empty)]
        lines = list(_lines("a page of one word", *nothing))
        for name in people[0].pages:
            if only not in name:
                continue
            found: list[list[Seen]] = [[], []]
            for _ in range(visits):
                for each, person, seen in zip(found, people, (full, empty), strict=True):
                    each.append(await _look(seen.page, f"{url}/portal{person.pages[name]}"))
            lines += _lines(name, *found)
        return lines


async def _look(page: Page, url: str) -> Seen:
    """Open a page; return when it was painted first and when its first byte came."""
    await page.goto("about:blank")
    answer = await page.goto(url)
    if answer is None or answer.status != 200:
        raise SystemExit(f"void: {url} was answered {None if answer is None else answer.status}")
    paint: float = await page.evaluate(_PAINTED)
    server: float = await page.evaluate(
        "(() => { const [it] = performance.getEntriesByType('navigation'); return it.responseStart - it.requestStart; })()"
    )
    return Seen(paint=paint, server=server)


_PAINTED: Final = """() => new Promise((resolve) => {
  new PerformanceObserver((list) => {
    const found = list.getEntriesByName("first-contentful-paint")[0];
    if (found) resolve(found.startTime);
  }).observe({ type: "paint", buffered: true });
})"""


def _lines(name: str, full: list[Seen], empty: list[Seen]) -> Iterator[Line]:
    target = Target(goal=FIRST_PAINT_MS, bound=FIRST_PAINT_MS, side="most")
    painted, beside = (statistics.median(each.paint for each in one) for one in (full, empty))
    yield Line(name=f"{name}: first paint", value=painted, unit="ms", baseline=beside, target=target)
    served, served_beside = (statistics.median(each.server for each in one) for one in (full, empty))
    yield Line(name=f"{name}: server", value=served, unit="ms", baseline=served_beside)


if __name__ == "__main__":
    main()
