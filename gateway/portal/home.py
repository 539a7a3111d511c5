"""Home: a checklist that ticks itself, and the day in figures."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Final

from msgspec import Struct
from starlette.responses import Response

from delivery.log import DeliveryFilter
from delivery.shapes import Delivery
from delivery.tally import BOUNDS_MS, HOUR_US, Tally, quantile_ms
from engine import queries
from engine.queries import Selection
from gateway.portal.rendering import page
from gateway.portal.visit import Visit

HOURS: Final = 24
TROUBLED_SHOWN: Final = 5
_DAY_US: Final = 24 * HOUR_US


class Steps(Struct, frozen=True, kw_only=True):
    """What a new user has done so far."""

    key_used: bool
    endpoint_added: bool
    delivered: bool

    @property
    def done(self) -> bool:
        """Tell whether nothing is left to do."""
        return self.key_used and self.endpoint_added and self.delivered


class Figures(Struct, frozen=True, kw_only=True):
    """Attempts of some hours, the last one the present."""

    attempts: list[int]
    failed: list[int]
    p95_ms: list[int]
    total: int
    delivered: int
    p95: str

    @property
    def success(self) -> str:
        """Return the share that was delivered."""
        return "–" if not self.total else f"{_percent(self.delivered, self.total)} %"


async def home(visit: Visit) -> Response:
    """Show where the site stands."""
    services, site, now_us = visit.services, visit.site, visit.now_us
    begin_us = now_us - now_us % _DAY_US
    hours = [(now_us // HOUR_US - back) * HOUR_US for back in range(HOURS - 1, -1, -1)]
    tallies, places, failed, retrying, troubled, steps = await asyncio.gather(
        services.figures.hours(site, now_us - (HOURS - 1) * HOUR_US),
        services.engine.sequences_at(site, hours),
        services.log.deliveries(site, DeliveryFilter(status="exhausted"), limit=5),
        services.log.deliveries(site, DeliveryFilter(status="retrying"), limit=5),
        services.figures.troubled(site, TROUBLED_SHOWN + 1),
        _steps(visit),
    )
    today = [each for each in tallies if each.hour * HOUR_US >= begin_us]
    return page(
        visit,
        "home.html",
        steps=steps,
        events_today=places[-1] - places[hours.index(begin_us)],
        events=[after - before for before, after in pairwise(places)],
        today=figures(today, begin_us // HOUR_US, now_us // HOUR_US),
        day=figures(tallies, now_us // HOUR_US - HOURS + 1, now_us // HOUR_US),
        failed=failed.data,
        retrying=retrying.data,
        troubled=troubled[:TROUBLED_SHOWN],
        more_troubled=len(troubled) > TROUBLED_SHOWN,
        urls=await endpoint_urls(visit, [*failed.data, *retrying.data]),
        entry=None if steps.done else await _entry_line(visit),
    )


async def endpoint_urls(visit: Visit, found: Iterable[Delivery]) -> dict[str, str]:
    """Return the addresses of the endpoints of these deliveries by id; removed ones have none."""
    ids = {each.endpoint_id for each in found}
    return await visit.services.figures.addresses(visit.site, ids) if ids else {}


async def checklist(visit: Visit) -> Response:
    """Return the checklist alone, as it is now."""
    steps = await _steps(visit)
    return page(visit, "checklist.html", steps=steps, entry=None if steps.done else await _entry_line(visit))


def figures(tallies: Sequence[Tally], first_hour: int, last_hour: int) -> Figures:
    """Add tallies up, by hour and together."""
    hours = range(first_hour, last_hour + 1)
    by_hour = {hour: [each for each in tallies if each.hour == hour] for hour in hours}
    every = [_durations(found) for found in by_hour.values()]
    p95 = quantile_ms(_durations(tallies), 0.95)
    return Figures(
        attempts=[sum(each.attempts for each in found) for found in by_hour.values()],
        failed=[sum(each.failed for each in found) for found in by_hour.values()],
        p95_ms=[quantile_ms(each, 0.95) or 0 for each in every],
        total=sum(each.attempts for each in tallies),
        delivered=sum(each.delivered for each in tallies),
        p95="–" if p95 is None else f"> {BOUNDS_MS[-1]:,} ms" if p95 > BOUNDS_MS[-1] else f"≤ {p95:,} ms",
    )


def _durations(tallies: Sequence[Tally]) -> list[int]:
    return [sum(counts) for counts in zip(*(each.durations for each in tallies), strict=True)]


def _percent(part: int, whole: int) -> str:
    """Write a share so that 100 means all: what is missing is never rounded away."""
    tenths = part * 1000 // whole
    return str(tenths // 10) if tenths % 10 == 0 else f"{tenths / 10:.1f}"


async def _steps(visit: Visit) -> Steps:
    services, site = visit.services, visit.site
    key_used, endpoints, delivered = await asyncio.gather(
        services.clients.anything_used(site.id), services.figures.newest(site, 1), services.figures.arrived(site)
    )
    return Steps(key_used=key_used, endpoint_added=bool(endpoints), delivered=delivered)


async def _entry_line(visit: Visit) -> str | None:
    """Return the JSON of an entry that can be posted here, where two accounts of one ledger and currency are there for it."""
    found = await visit.services.engine.ask(visit.site, queries.list_accounts, Selection(limit=20))
    groups: dict[tuple[str, str], list[str]] = {}
    for account in found.value.items:
        if account.status == "open" and account.allow_negative:
            groups.setdefault((account.ledger_id, account.currency), []).append(account.id)
    for pair in groups.values():
        if len(pair) > 1:
            lines = [
                f'{{"account_id":"{pair[0]}","direction":"debit","amount":100}}',
                f'{{"account_id":"{pair[1]}","direction":"credit","amount":100}}',
            ]
            return f'{{"lines":[{",".join(lines)}]}}'
    return None
