"""Every operation of the document, asked by a generator that knows the document: right, wrong and odd requests.

Whatever is asked, the answer is one that the document describes: status, media type, shape, headers and problem code.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Final, cast

import httpx2
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gledger.parts import Parts
from openapi.build import FOLDER
from openapi.operations import CODES_EXTENSION
from tests.api.stage import BASE_URL, PARTNER, OpenSite, furnish, open_client, open_site

DOCUMENT: Final = json.loads((FOLDER / "openapi.json").read_text(encoding="utf-8"))
SCHEMA: Final = schemathesis.openapi.from_dict(
    DOCUMENT,
    config=schemathesis.Config.from_dict({"generation": {"with-security-parameters": False, "deterministic": True}}),
)
CHECKS: Final = [
    schemathesis.checks.not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    negative_data_rejection,
]


class FirstWords:
    """An application whose streams end after their first words, as if the client had gone."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve until the answer is whole, or its first piece is there."""
        gone = asyncio.Event()
        asked = False

        async def take() -> Message:
            nonlocal asked
            if not asked:
                message = await receive()
                asked = not message.get("more_body", False)
                return message
            await gone.wait()
            return {"type": "http.disconnect"}

        async def give(message: Message) -> None:
            if gone.is_set():
                return
            await send(message)
            if message["type"] == "http.response.body" and message.get("more_body") and message.get("body"):
                gone.set()

        await self._app(scope, take, give)
        if gone.is_set():
            await send({"type": "http.response.body", "body": b"", "more_body": False})


@dataclass(frozen=True, slots=True, kw_only=True)
class Driver:
    """A site with something of everything, and the way to ask about it from outside the loop."""

    site: OpenSite
    client: httpx2.AsyncClient
    loop: asyncio.AbstractEventLoop
    known: dict[str, list[str]]
    answered: dict[str, set[int]] = field(default_factory=dict)
    turns: Counter[str] = field(default_factory=Counter)

    def call(self, case: schemathesis.Case[Any], headers: dict[str, str]) -> httpx2.Response:
        """Send a case and return the answer."""
        prepared = requests.Request(**case.as_transport_kwargs(base_url=BASE_URL)).prepare()
        sent = {
            name: value
            for name, value in prepared.headers.items()
            if name.lower() not in {"x-api-key", "authorization"}
        }
        body = cast("str | bytes | None", prepared.body)
        request = httpx2.Request(
            str(prepared.method),
            str(prepared.url),
            headers=[(_bytes(name), _bytes(value)) for name, value in {**sent, **headers}.items()],
            content=body.encode() if isinstance(body, str) else body,
        )
        answer = self.loop.run_until_complete(self.client.send(request))
        if case.method == case.operation.method.upper():
            self.answered.setdefault(case.operation.label, set()).add(answer.status_code)
        return answer

    def authorization(self, case: schemathesis.Case[Any]) -> dict[str, str]:
        """Return what opens an operation: a client's own credentials where tokens are made, else a token."""
        if case.operation.path.startswith("/oauth/"):
            return {"authorization": "Basic " + base64.b64encode(":".join(self.site.basic).encode()).decode()}
        return {"authorization": self.site.client.headers["authorization"]}


def _bytes(text: str | bytes) -> bytes:
    return text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text


def ground(case: schemathesis.Case[Any], known: dict[str, list[str]], turn: int) -> None:
    """Let a right request name what is there: a generator cannot guess an id."""
    collection = case.operation.path.split("/")[2:3]
    if "id" in case.path_parameters and collection and turn % 4:
        # What is taken away is gone for every other operation: each kind has things of its own.
        last = case.method == "DELETE" or case.operation.path.endswith("/archive")
        ids = known[collection[0]][1 if last else 0 :: 2]
        case.path_parameters["id"] = ids[turn % len(ids)]
    if "member_id" in case.path_parameters and turn % 4:
        members = known[case.operation.path.split("/")[4]]
        case.path_parameters["member_id"] = members[turn % len(members)]
    if case.operation.path.startswith("/v1/account_categories/{id}/"):
        # A cursor is made by the page before; a generator cannot guess one either.
        case.query.pop("cursor", None)
    if "currency" in case.path_parameters and turn % 4:
        case.path_parameters["currency"] = known["currencies"][turn % len(known["currencies"])]
    if "Idempotency-Key" in case.headers:
        case.headers["Idempotency-Key"] = f"key-{turn}"
    if "If-Match" in case.headers and turn % 4:
        case.headers["If-Match"] = "*"
    if "from" in case.query and "to" in case.query and turn % 4:
        case.query |= {"from": "2026-01-01T00:00:00Z", "to": "2026-01-02T00:00:00Z"}
    body = case.body
    if not isinstance(body, dict):
        return
    if "country" in body:
        body |= {"country": "DE", "external_id": None}
    if "entity_id" in body:
        body["entity_id"] = known["entities"][0]
    if "ledger_id" in body:
        body["ledger_id"] = known["ledgers"][0]
    if "normal_balance" in body and "type" not in body:
        body.pop("ledger_id", None)
        body |= {"limits": [], "currency": "USD"}
    if "condition" in body:
        body.pop("account_category_id", None)
        body["account_id"] = known["accounts"][turn % 2]
    if "custom_data" in body or case.operation.path == "/v1/business_events":
        body |= {"name": "Sale", "external_id": None}
    if ground_handler(body, known):
        return
    if "url" in body:
        body["url"] = PARTNER
    if "event_types" in body:
        body["event_types"] = ["entry.*", "account.updated"]
    entries: list[dict[str, Any]] = [body, *cast("list[dict[str, Any]]", body.get("entries", []))]
    for entry in entries:
        lines: list[dict[str, Any]] = entry.get("lines") or []
        del lines[len(lines) // 2 * 2 :]
        entry.pop("idempotency_key", None)
        for index, line in enumerate(lines):
            line.pop("lock_version", None)
            line["account_id"] = known["accounts"][index % 2]
            line["direction"] = ("debit", "credit")[index % 2]
            line["amount"] = lines[0]["amount"]


def ground_handler(body: dict[str, Any], known: dict[str, list[str]]) -> bool:
    """Let an event handler, or one to be tried, be one that can be; tell whether there is one."""
    handler = body.get("event_handler", body)
    if not isinstance(handler, dict) or not handler.keys() & {"conditions", "rounding", "variables"}:
        return False
    ways = (("debit", known["accounts"][0]), ("credit", known["accounts"][1]))
    lines = [{"account_id": account, "direction": way, "amount": "{{ 1 + 1 }}"} for way, account in ways]
    named = {"field": "event.name", "operator": "equals", "value": "Unused"}
    handler |= {"conditions": named, "variables": {}, "entries": [{"lines": lines}], "ledger_id": None}
    body.pop("business_event", None)
    return True


@pytest.fixture(scope="module")
async def driver(parts: Parts, app: ASGIApp) -> AsyncIterator[Driver]:
    """A furnished site, asked through an application whose streams end."""
    async with open_site(parts, app) as site, open_client(FirstWords(app)) as client:
        yield Driver(site=site, client=client, loop=asyncio.get_running_loop(), known=await furnish(site, parts))


@SCHEMA.parametrize()
@settings(max_examples=6, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
def test_an_operation_answers_as_the_document_says(case: schemathesis.Case[Any], driver: Driver) -> None:
    """No request leads to an answer that is not described."""
    turn = sum(driver.turns.values())
    driver.turns[case.operation.label] += 1
    if case.meta is not None and case.meta.generation.mode.is_positive:
        ground(case, driver.known, turn)
    answer = driver.call(case, driver.authorization(case))
    case.validate_response(answer, checks=CHECKS)
    if (
        answer.headers.get("content-type") == "application/problem+json"
        and case.method == case.operation.method.upper()
    ):
        assert answer.json()["code"] in documented_codes(case, answer.status_code), answer.text


def documented_codes(case: schemathesis.Case[Any], status: int) -> list[str]:
    """Return the problem codes that the document gives an operation's answer of a status."""
    answer = DOCUMENT["paths"][case.operation.path][case.operation.method]["responses"][str(status)]
    if "$ref" in answer:
        answer = DOCUMENT["components"]["responses"][answer["$ref"].rsplit("/", 1)[-1]]
    return list(answer[CODES_EXTENSION])


def test_the_stream_begins_by_saying_where_it_is(driver: Driver) -> None:
    """A stream that never ends is asked for its first words: ready, and the cursor to resume from."""
    for begin in ("start", "now"):
        url = f"/v1/events/stream?from={begin}"
        request = driver.client.build_request("GET", url, headers=driver.site.client.headers)
        answer = driver.loop.run_until_complete(driver.client.send(request))
        assert answer.headers["content-type"].startswith("text/event-stream")
        words = dict(line.split(": ", 1) for line in answer.text.splitlines() if line)
        told = json.loads(words["data"])
        assert (words["event"], words["id"]) == ("ready", told["cursor"])
        assert (told["cursor"] == told["head"]) == (begin == "now")


def test_every_operation_was_also_done(driver: Driver) -> None:
    """The generator does not only collect refusals: each operation it drove succeeded at least once."""
    assert [name for name, statuses in driver.answered.items() if not any(each < 300 for each in statuses)] == []
