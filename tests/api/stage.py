"""Sites to ask about over HTTP: made, opened with a token, and furnished with something of everything."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import httpx2
from starlette.types import ASGIApp

from auth.clients import Credentials
from delivery.relay import Relay
from engine.databases import Site
from gledger.parts import Parts
from gledger.sites import bootstrap

BASE_URL: Final = "http://ledger.example"
REFERENCE: Final[dict[str, list[dict[str, Any]]]] = {
    "entities": [{"type": "company", "name": "Acme"}] * 4,
    "currencies": [{"code": f"PT{number}", "exponent": 0, "name": "Points"} for number in range(4)],
    "products": [{"code": f"p{number}", "name": "Card"} for number in range(4)],
}
PARTNER: Final = "https://partner.example/hook"
_NUMBERS = itertools.count(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenSite:
    """A site, what opens it, and a client that did."""

    site: Site
    credentials: Credentials
    client: httpx2.AsyncClient

    @property
    def basic(self) -> tuple[str, str]:
        """The client's own credentials, as HTTP Basic sends them."""
        return self.credentials.client_id, self.credentials.client_secret


@asynccontextmanager
async def open_client(app: ASGIApp, headers: dict[str, str] | None = None) -> AsyncIterator[httpx2.AsyncClient]:
    """Open a client of the application; nothing it raises is turned into an answer."""
    transport = httpx2.ASGITransport(app)
    async with httpx2.AsyncClient(transport=transport, base_url=BASE_URL, headers=headers) as client:
        yield client


@asynccontextmanager
async def open_site(parts: Parts, app: ASGIApp) -> AsyncIterator[OpenSite]:
    """Make a site, get an access token for it, and open a client that sends it."""
    organization = f"org-{next(_NUMBERS)}"
    credentials = await bootstrap(parts, organization, "sandbox")
    [site] = [each for each in await parts.sites() if each.organization == organization]
    async with open_client(app) as client:
        opened = OpenSite(site=site, credentials=credentials, client=client)
        client.headers["authorization"] = f"Bearer {await new_token(opened)}"
        yield opened


async def new_token(opened: OpenSite, scope: str | None = None) -> str:
    """Return an access token, with all of the client's scopes unless some are named."""
    form = {"grant_type": "client_credentials"} | ({} if scope is None else {"scope": scope})
    answer = await opened.client.post("/oauth/token", data=form, auth=opened.basic)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["access_token"])


async def furnish(opened: OpenSite, parts: Parts) -> dict[str, list[str]]:
    """Put something of everything onto a site and return the ids by the collection they are found in.

    The entries are pending, the last accounts have no lines, the first event is one of the feed's first.
    """
    client = opened.client

    async def make(path: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = await client.post(path, json=body)
        assert answer.status_code == 201, answer.text
        return dict(answer.json())

    async def make_several(count: int, path: str, body: dict[str, Any]) -> list[str]:
        return [(await make(path, body))["id"] for _ in range(count)]

    ledgers = await make_several(4, "/v1/ledgers", {"name": "Main"})
    endpoints = await make_several(8, "/v1/webhook_endpoints", {"url": PARTNER, "event_types": ["*"]})
    account = {"ledger_id": ledgers[0], "name": "Cash", "type": "asset", "currency": "USD"}
    accounts = await make_several(8, "/v1/accounts", account)
    category = {"name": "Cash", "currency": "USD", "normal_balance": "debit"}
    categories = await make_several(16, "/v1/account_categories", category)
    watch = {"account_id": accounts[0], "condition": {"field": "posted", "operator": "gt", "value": 0}}
    monitors = await make_several(8, "/v1/balance_monitors", watch)
    reference = {
        name: [(await make(f"/v1/{name}", each))["id"] for each in bodies] for name, bodies in REFERENCE.items()
    }
    lines = [
        {"account_id": accounts[0], "direction": "debit", "amount": 100},
        {"account_id": accounts[1], "direction": "credit", "amount": 100},
    ]
    handler: dict[str, Any] = {"name": "Sales", "entries": [{"lines": lines}]}
    named = {"field": "event.name", "operator": "equals"}
    await make("/v1/event_handlers", {**handler, "conditions": {**named, "value": "Sale"}})
    unused = {**handler, "conditions": {**named, "value": "Unused"}}
    happened = await make_several(4, "/v1/business_events", {"name": "Sale"})
    pending = await make("/v1/entries/batch", {"entries": [{"lines": lines, "status": "pending"}] * 60})
    await make("/v1/entries", {"lines": lines})
    await Relay(parts.databases, clock=parts.clock, ids=parts.ids).run(opened.site)

    async def listed(path: str) -> list[str]:
        return [each["id"] for each in (await client.get(path)).json()["data"]]

    replay = {"filter": {"sequence_from": 1}, "rate_per_s": 1}
    return {
        "ledgers": ledgers,
        "accounts": accounts,
        "account_categories": categories,
        "balance_monitors": monitors,
        "event_handlers": await make_several(12, "/v1/event_handlers", unused),
        "business_events": happened,
        "entries": [each["id"] for each in pending["data"]],
        "webhook_endpoints": endpoints,
        "events": await listed("/v1/events"),
        "deliveries": await listed("/v1/deliveries"),
        "inspectors": await make_several(4, "/v1/inspectors", {}),
        **reference,
        "countries": ["DE"],
        "event_types": ["entry.posted"],
        "fx_rates": await make_several(2, "/v1/fx_rates", {"base": "EUR", "quote": "USD", "rate": "1.1"}),
        "holds": await make_several(4, "/v1/holds", {"lines": lines}),
        "replays": await make_several(6, "/v1/replays", replay),
        "api_keys": await make_several(4, "/v1/api_keys", {"name": "Dashboard"}),
    }
