"""A cursor older than what the feed still serves: an answer that says what to do, or a stream that begins with a reset."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
from starlette.types import ASGIApp, Message

from tests.api.stage import OpenSite, new_token
from tests.streams import check_word


async def asked(app: ASGIApp, query: str, token: str) -> tuple[int, bytes]:
    """Return the status and the first bytes of a stream's body, then hang up."""
    sent: list[Message] = []
    enough = asyncio.Event()

    async def receive() -> Message:
        if not enough.is_set() and not sent:
            return {"type": "http.request", "body": b"", "more_body": False}
        await enough.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)
        if message["type"] == "http.response.body":
            enough.set()

    scope: dict[str, Any] = {
        "type": "http",
        "method": "GET",
        "path": "/v1/events/stream",
        "query_string": query.encode(),
        "headers": [(b"authorization", f"Bearer {token}".encode())],
    }
    async with asyncio.timeout(10):
        await app(scope, receive, send)
    return sent[0]["status"], sent[1]["body"]


async def test_a_cursor_too_old_is_gone_or_a_reset(site: OpenSite, later: ASGIApp) -> None:
    """410 with the earliest place and the head; for a browser 200, a reset with the same, then ready at the head."""
    answers = [await site.client.post("/v1/ledgers", json={"name": "Main"}) for _ in range(3)]
    assert all(each.status_code == 201 for each in answers)
    first = (await site.client.get("/v1/events?limit=1")).json()["next_cursor"]
    token = await new_token(site)
    status, body = await asked(later, f"cursor={first}", token)
    problem = msgspec.json.decode(body)
    assert (status, problem["code"]) == (410, "cursor.expired")
    assert {"earliest", "head"} <= set(problem)
    assert "X-GLedger-Feed-Cursor" in problem["detail"] + (await _meaning(site, problem["type"]))
    status, body = await asked(later, f"cursor={first}&on_expired=reset", token)
    assert status == 200
    reset, ready = body.split(b"\n\n")[:2]
    fields = dict(line.split(b": ", 1) for line in reset.split(b"\n"))
    word = msgspec.json.decode(fields[b"data"])
    check_word(word)
    assert (fields[b"event"], word["reason"]) == (b"reset", "cursor.expired")
    assert (word["earliest"], word["head"]) == (problem["earliest"], problem["head"])
    assert "X-GLedger-Feed-Cursor" in word["snapshot"]
    assert b"event: ready" in ready
    assert fields[b"id"].decode() == word["cursor"] == problem["head"]
    status, body = await asked(later, f"cursor={problem['earliest']}&on_expired=reset", token)
    assert (status, b"event: reset" in body) == (200, False)


async def _meaning(site: OpenSite, page: str) -> str:
    return (await site.client.get(page)).text
