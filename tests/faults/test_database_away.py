"""While PostgreSQL is away: what is asked is answered with 503 and when to come back, and works again by itself."""

from __future__ import annotations

import asyncio
import re
from typing import Any, Final

import aiohttp

from tests.faults.conftest import Stage

REQUESTS: Final[tuple[tuple[str, str, dict[str, Any] | None], ...]] = (
    ("POST", "/v1/ledgers", {"name": "x"}),
    ("GET", "/v1/ledgers", None),
    ("GET", "/v1/accounts", None),
    ("GET", "/v1/entries", None),
    ("GET", "/v1/events", None),
    ("GET", "/v1/events/stream", None),
    ("GET", "/v1/webhook_endpoints", None),
    ("GET", "/v1/deliveries", None),
    ("POST", "/v1/webhook_endpoints", {"url": "http://127.0.0.1:9/", "event_types": ["*"]}),
    ("GET", "/v1/api_keys", None),
    ("POST", "/v1/api_keys", {"name": "x", "scopes": ["events.read"]}),
)


async def test_every_request_is_told_to_come_back_while_the_database_is_away(stage: Stage) -> None:
    """Not one internal error: each operation says `unavailable`, and so does a credential that must be looked up.

    An `EventSource`, which stops for good at a 503, is told in its own way.
    """
    known = {"authorization": f"Bearer {stage.load.credentials.api_key}"}
    gateway = stage.gateways[0].url
    wanted = {"name": "not seen yet", "scopes": ["events.read"]}
    unseen = (await stage.load.ask(stage.http, "POST", "/v1/api_keys", wanted))["key"]
    ticket = (await stage.load.ask(stage.http, "POST", "/v1/stream_tickets", {}))["ticket"]
    await asyncio.to_thread(stage.postgres.kill)
    found = {}
    for method, path, body in REQUESTS:
        found[f"{method} {path}"] = await _ask(stage.http, method, gateway + path, known, json=body)
    found["unseen key"] = await _ask(stage.http, "GET", f"{gateway}/v1/events", {"x-api-key": unseen})
    basic = aiohttp.encode_basic_auth(stage.load.credentials.client_id, stage.load.credentials.client_secret)
    form = {"grant_type": "client_credentials"}
    token = await _ask(stage.http, "POST", f"{gateway}/oauth/token", {"authorization": basic}, data=form)
    stream = f"{gateway}/v1/events/stream?ticket={ticket}&on_expired=reset"
    async with stage.http.get(stream, headers={"accept": "text/event-stream"}) as answer:
        told_to_browsers = answer.status, answer.content_type, await answer.text()
    ready = await _ask(stage.http, "GET", f"{gateway}/readyz", {})
    await asyncio.to_thread(stage.postgres.start)
    assert {name: told for name, told in found.items() if told != (503, "unavailable", True)} == {}
    assert (token[0], token[2]) == (503, True)
    assert told_to_browsers[:2] == (200, "text/event-stream")
    # Neither an event nor an id: whoever comes back has the place he had.
    assert re.fullmatch(r": unavailable\nretry: \d{4,5}\n\n", told_to_browsers[2])
    assert ready[0] == 503
    for each in stage.gateways:
        await each.ready()
    for method, path, _ in REQUESTS:
        if method == "GET" and "stream" not in path:
            await stage.load.ask(stage.http, method, path, None)
    async with stage.under_load():
        await stage.load.until(50)
    await stage.check()


async def _ask(
    http: aiohttp.ClientSession, method: str, url: str, headers: dict[str, str], **body: Any
) -> tuple[int, str | None, bool]:
    """Return the status, the problem's code, and whether it says when to come back."""
    async with http.request(method, url, headers=headers, timeout=aiohttp.ClientTimeout(total=15), **body) as answer:
        text = await answer.json(content_type=None)
        return answer.status, text.get("code"), "retry-after" in answer.headers
