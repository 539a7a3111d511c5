"""What the portal tells of the request behind an event is what the request was, whichever operation it was."""

from __future__ import annotations

from typing import Any

import httpx2
import msgspec
import pytest

from delivery.relay import Relay
from engine.events import Envelope
from gateway.portal.origin import Operation, Origin, drawn_at, operation_of, origins_of
from gledger.parts import Parts
from tests.api.stage import OpenSite, furnish
from tests.api.test_portal import browser as browser


class Journal:
    """What was sent, by the id that the request was given, and the events of the site."""

    def __init__(self, site: OpenSite) -> None:
        self.site = site
        self.sent: dict[str, tuple[str, str, int]] = {}
        site.client.event_hooks["response"].append(self._note)

    async def _note(self, answer: httpx2.Response) -> None:
        asked = answer.request
        self.sent[answer.headers["x-gledger-request-id"]] = (asked.method, asked.url.path, answer.status_code)

    async def ask(self, method: str, path: str, body: Any = None, **headers: str) -> dict[str, Any]:
        """Send a request that succeeds and return its answer."""
        given = {name.replace("_", "-"): each for name, each in headers.items()}
        answer = await self.site.client.request(method, path, json=body, headers=given)
        assert answer.is_success, (path, answer.text)
        return dict(answer.json())

    async def origins(self) -> list[Origin]:
        """Return the requests behind the site's whole feed."""
        read: list[Envelope] = []
        path: str | None = "/v1/events?limit=1000"
        while path is not None:
            found = (await self.site.client.get(path)).json()
            read += [msgspec.json.decode(msgspec.json.encode(each), type=Envelope) for each in found["data"]]
            path = f"/v1/events?limit=1000&after={found['next_cursor']}" if found["has_more"] else None
        return origins_of(read)


async def _act(journal: Journal, accounts: list[str], ledger: str) -> None:
    """Do everything that can be done to an entry, and what else changes the books."""
    lines = [
        {"account_id": accounts[0], "direction": "debit", "amount": 100},
        {"account_id": accounts[1], "direction": "credit", "amount": 100},
    ]
    entry = {"lines": lines}
    posted = await journal.ask("POST", "/v1/entries", entry)
    await journal.ask("PATCH", f"/v1/entries/{posted['id']}", {"description": "Changed"})
    await journal.ask("POST", f"/v1/entries/{posted['id']}/reverse", {})
    pending = [(await journal.ask("POST", "/v1/entries", {**entry, "status": "pending"}))["id"] for _ in range(4)]
    await journal.ask("POST", f"/v1/entries/{pending[0]}/post")
    await journal.ask("POST", f"/v1/entries/{pending[1]}/archive")
    await journal.ask("PATCH", f"/v1/entries/{pending[2]}", {"lines": [{**each, "amount": 7} for each in lines]})
    line_ids = [each["id"] for each in (await journal.ask("GET", f"/v1/entries/{pending[3]}"))["lines"]]
    part = {"lines": [{"id": each, "amount": 40} for each in line_ids]}
    await journal.ask("POST", f"/v1/entries/{pending[3]}/partial_post", part)
    await journal.ask("POST", "/v1/entries", entry, prefer="respond-async")
    await journal.ask("POST", "/v1/entries/batch", {"entries": [entry, entry]})
    holds = [(await journal.ask("POST", "/v1/holds", entry))["id"] for _ in range(3)]
    await journal.ask("POST", f"/v1/holds/{holds[0]}/capture", {})
    await journal.ask("POST", f"/v1/holds/{holds[1]}/capture", {"amount": 30, "final": True})
    await journal.ask("POST", f"/v1/holds/{holds[2]}/release")
    await journal.ask("PATCH", f"/v1/ledgers/{ledger}", {"name": "Renamed"})
    await journal.ask("PATCH", f"/v1/accounts/{accounts[-1]}", {"name": "Renamed"})
    await journal.ask("POST", f"/v1/accounts/{accounts[-1]}/close")


async def test_the_operation_behind_every_event_is_told_as_it_was(site: OpenSite, parts: Parts) -> None:
    """Method, path and answer of all that can be proven; where it cannot be, nothing is told rather than something wrong."""
    journal = Journal(site)
    made = await furnish(site, parts)
    await _act(journal, made["accounts"], made["ledgers"][1])
    origins = await journal.origins()
    told: set[str] = set()
    for origin in origins:
        method, path, status = journal.sent[origin.request_id]
        if origin.operation is None:
            continue
        assert (origin.operation.method, origin.operation.path) == (method, path), [each.type for each in origin.events]
        assert origin.operation.status in {None, status}, path
        told.add(origin.request_id)
    acted = {
        request_id
        for request_id, (method, path, _) in journal.sent.items()
        if method != "GET"
        and path.startswith(("/v1/entries", "/v1/holds", "/v1/accounts", "/v1/ledgers", "/v1/business_events"))
    }
    assert {journal.sent[each] for each in acted - told} == set()
    assert len(acted) > 30


async def _relay(parts: Parts, site: OpenSite) -> None:
    await Relay(parts.databases, clock=parts.clock, ids=parts.ids).run(site.site)


async def test_the_timeline_goes_from_the_request_to_the_delivery(
    browser: httpx2.AsyncClient, site: OpenSite, parts: Parts
) -> None:
    """On the pages of a delivery, of its event and of its entry: the request by method, path, answer, id and correlation id."""
    made = await furnish(site, parts)
    lines = [
        {"account_id": made["accounts"][0], "direction": "debit", "amount": 123456},
        {"account_id": made["accounts"][1], "direction": "credit", "amount": 123456},
    ]
    posted = await site.client.post("/v1/entries", json={"lines": lines}, headers={"correlation-id": "order-7"})
    entry = posted.json()
    reversed_ = await site.client.post(
        f"/v1/entries/{entry['id']}/reverse", json={}, headers={"correlation-id": "oops"}
    )
    from_books = (await site.client.get(f"/v1/events?resource_id={entry['id']}")).json()["data"]
    await _relay(parts, site)
    delivery = (await site.client.get(f"/v1/deliveries?event_id={from_books[0]['id']}&limit=1")).json()["data"][0]
    for path in (f"/deliveries/{delivery['id']}", f"/events/{from_books[0]['id']}", f"/entries/{entry['id']}"):
        text = (await browser.get(f"/portal{path}")).text
        for part in ("/v1/entries</code>", ">201<", posted.headers["x-gledger-request-id"], "order-7"):
            assert part in text, (path, part)
    for path in (f"/deliveries/{delivery['id']}", f"/events/{from_books[0]['id']}"):
        assert "1,234.56 USD" in (await browser.get(f"/portal{path}")).text
    later = (await browser.get(f"/portal/events/{from_books[1]['id']}")).text
    for part in ("order-7", "oops", f"/v1/entries/{entry['id']}/reverse</code>", "Then this request"):
        assert part in later, part
    assert reversed_.headers["x-gledger-request-id"] in (await browser.get(f"/portal/entries/{entry['id']}")).text


@pytest.mark.parametrize("text", ["", "nobody", "01890000-0000-4000-8000-000000000000"])
def test_an_id_that_tells_no_time_tells_none(text: str) -> None:
    """Only the seventh version begins with the milliseconds."""
    assert drawn_at(text) is None


def test_an_id_tells_when_it_was_drawn() -> None:
    """To the millisecond."""
    assert drawn_at("01890000-0000-7000-8000-000000000000") == "2023-06-28T03:15:47.328000Z"


def _envelope(event_type: str, data: dict[str, Any]) -> Envelope:
    kind = event_type.partition(".")[0]
    href = f"/v1/{'entries' if kind == 'entry' else kind + 's'}/1"
    return msgspec.convert(
        {
            "id": "e", "type": event_type, "schema_version": 1, "sequence": 1, "timestamp": "2026-11-21T10:00:00.000000Z",
            "organization": "o", "environment": "sandbox", "resource": {"type": kind, "id": "1", "href": href},
            "data": msgspec.Raw(msgspec.json.encode(data)),
        },
        Envelope,
    )  # fmt: skip


def test_what_events_do_not_prove_is_not_told() -> None:
    """An entry of a business event whose own event was not looked at, a monitor, a rejection."""
    at = {"created_at": "t", "posted_at": "t"}
    assert operation_of([_envelope("entry.posted", {**at, "business_event_id": "b"})]) is None
    assert operation_of([_envelope("entry.rejected", {})]) is None
    assert operation_of([_envelope("balance.threshold_crossed", {})]) is None
    assert operation_of([_envelope("entry.posted", at)]) == Operation(method="POST", path="/v1/entries", status=201)


async def test_from_a_balance_to_what_is_behind_it(browser: httpx2.AsyncClient, site: OpenSite, parts: Parts) -> None:
    """Pending and held lead to the entries and holds of this account alone, and to those that are still open."""
    made = await furnish(site, parts)
    third = made["accounts"][2]
    lines = [
        {"account_id": third, "direction": "credit", "amount": 7},
        {"account_id": made["accounts"][3], "direction": "debit", "amount": 7},
    ]
    pending = (await site.client.post("/v1/entries", json={"lines": lines, "status": "pending"})).json()["id"]
    holds = [(await site.client.post("/v1/holds", json={"lines": lines})).json()["id"] for _ in range(2)]
    await site.client.post(f"/v1/holds/{holds[0]}/release")
    page = (await browser.get(f"/portal/accounts/{third}")).text
    for path, there, not_there in (
        (f"/portal/entries?account_id={third}&status=pending", [pending, holds[1]], [holds[0], made["entries"][0]]),
        (f"/portal/holds?account_id={third}&status=open", [holds[1]], [holds[0], pending, made["holds"][0]]),
    ):
        assert path.replace("&", "&amp;") in page
        text = (await browser.get(path)).text
        assert [f'data-href="/portal/entries/{each}"' in text for each in there] == [True] * len(there)
        assert [f'data-href="/portal/entries/{each}"' in text for each in not_there] == [False] * len(not_there)
