"""What other ledgers are tortured with, here too: each driver works two gateways at once, then the books must be right.

After every driver the invariants are checked over the API, and `gledger verify` finds nothing.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from engine.cursors import parse_feed_cursor
from tests.journeys.conftest import Production, SiteClient
from tests.journeys.invariants import SIDES, check, events, listed, rebuilt
from tests.store.engine_stage import until

BOUND_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a request came to."""

    status: int
    body: Any
    replayed: bool

    @property
    def code(self) -> str:
        """Return the problem's code, "" of a success."""
        return str(self.body.get("code", "")) if self.status >= 400 else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Driver:
    """A site asked at both gateways in turn; whatever they answer is an answer."""

    site: SiteClient
    wallet: str
    cash: str

    async def send(self, at: int, method: str, path: str, body: Any = None, key: str | None = None) -> Answer:
        """Send a request to one of the gateways."""
        headers = self.site.headers | ({} if key is None else {"idempotency-key": key})
        url = self.site.urls[at % 2] + path
        async with self.site.http.request(method, url, json=body, headers=headers) as answer:
            replayed = answer.headers.get("idempotent-replayed") == "true"
            return Answer(status=answer.status, body=await answer.json(content_type=None), replayed=replayed)

    def lines(self, debit: str, credit: str, amount: int) -> list[dict[str, Any]]:
        """Return the two lines of a transfer."""
        return [
            {"account_id": debit, "direction": "debit", "amount": amount},
            {"account_id": credit, "direction": "credit", "amount": amount},
        ]

    def spend(self, amount: int = 1, **fields: Any) -> dict[str, Any]:
        """Return the body of an entry that takes something out of the wallet."""
        return {"lines": self.lines(self.wallet, self.cash, amount), **fields}

    def fund(self, amount: int = 1, **fields: Any) -> dict[str, Any]:
        """Return the body of an entry that puts something into the wallet."""
        return {"lines": self.lines(self.cash, self.wallet, amount), **fields}

    async def made(self, body: dict[str, Any], at: int = 0) -> Any:
        """Post an entry that must be accepted, and return it."""
        answer = await self.send(at, "POST", "/v1/entries", body)
        assert answer.status == 201, answer
        return answer.body

    async def amount(self, account_id: str, at: int = 0, balance: str = "posted") -> int:
        """Return a balance as a gateway shows it."""
        return int((await self.site.ask("GET", f"/v1/accounts/{account_id}/balance", at=at % 2))[balance]["amount"])


async def at_once(*requests: Awaitable[Answer]) -> list[Answer]:
    """Send all at once; nothing may be answered with an error of the server's own."""
    async with asyncio.timeout(BOUND_S):
        answers = await asyncio.gather(*requests)
    assert [each for each in answers if each.status >= 500] == []
    return answers


@pytest.fixture
async def driver(site: SiteClient, production: Production) -> AsyncIterator[Driver]:
    """A site with a wallet that must not be overdrawn; in the end everything is checked."""
    [ledger] = (await site.ask("GET", "/v1/ledgers"))["data"]
    wallet = await site.ask(
        "POST",
        "/v1/accounts",
        {"ledger_id": ledger["id"], "name": "Wallet", "type": "liability", "currency": "USD", "allow_negative": False},
    )
    yield Driver(site=site, wallet=wallet["id"], cash=site.debit)
    await check(site)
    verified = await production.deployment.run("verify")
    assert (verified.code, verified.err) == (0, ""), verified.out + verified.err


async def test_bulk_atomicity(driver: Driver) -> None:
    """Of forty batches of three that compete for money for some, each is there whole or not at all."""
    await driver.made(driver.fund(60))
    batches = [
        {"entries": [driver.spend(1, external_id=f"{number}-{part}") for part in range(3)]} for number in range(40)
    ]
    answers = await at_once(*(driver.send(n, "POST", "/v1/entries/batch", body) for n, body in enumerate(batches)))
    assert Counter(each.code for each in answers) == {"": 20, "insufficient_funds": 20}
    there = Counter(
        entry["external_id"].partition("-")[0]
        for entry in await listed(driver.site, "/v1/entries")
        if entry["external_id"]
    )
    assert there == {str(number): 3 for number, answer in enumerate(answers) if answer.status == 201}


async def test_definitive_errors(driver: Driver) -> None:
    """What was refused did nothing, is refused for the same reason again, and stands nowhere in the feed."""
    wrong: list[tuple[dict[str, Any], str]] = [
        (driver.spend(5), "insufficient_funds"),
        ({"lines": [*driver.lines(driver.cash, driver.wallet, 5)[:1], *driver.lines(driver.cash, driver.wallet, 6)[1:]]},
         "unbalanced_entry"),
        ({"lines": driver.lines(driver.cash, "external_id:nobody", 1)}, "account.not_found"),
        ({"lines": [{**line, "lock_version": 99} for line in driver.lines(driver.cash, driver.wallet, 1)]},
         "lock_version_conflict"),
        ({"lines": [{**line, "posted_balance_amount": {"gt": 10**6}} for line in driver.lines(driver.cash, driver.wallet, 1)]},
         "condition_failed"),
    ]  # fmt: skip
    before = await events(driver.site), await listed(driver.site, "/v1/accounts")
    for _ in range(2):
        answers = await at_once(
            *(
                driver.send(at, "POST", "/v1/entries", {**body, "external_id": f"e{number}"}, key=f"k{number}-{at}")
                for number, (body, _) in enumerate(wrong)
                for at in range(4)
            ),
        )
        assert [each.code for each in answers] == [code for _, code in wrong for _ in range(4)]
    assert (await events(driver.site), await listed(driver.site, "/v1/accounts")) == before


async def test_idempotency(driver: Driver) -> None:
    """Thirty keys, each used four times at both gateways at once, have thirty effects and one answer each."""
    answers = await at_once(
        *(
            driver.send(at, "POST", "/v1/entries", driver.fund(number + 1), key=f"key-{number}")
            for number in range(30)
            for at in range(4)
        ),
    )
    for number in range(30):
        mine = answers[number * 4 : number * 4 + 4]
        assert [each.status for each in mine] == [201] * 4
        assert len({each.body["id"] for each in mine}) == 1
        assert sorted(each.replayed for each in mine) == [False, True, True, True]
    assert await driver.amount(driver.wallet) == sum(range(1, 31))


async def test_idempotency_conflict(driver: Driver) -> None:
    """One key with ten different requests at once: one is done, the others are told that the key is taken."""
    answers = await at_once(
        *(driver.send(number, "POST", "/v1/entries", driver.fund(number + 1), key="one") for number in range(10)),
    )
    assert Counter(each.code for each in answers) == {"": 1, "idempotency.key_reused": 9}
    [winner] = [number + 1 for number, each in enumerate(answers) if each.status == 201]
    assert await driver.amount(driver.wallet, at=1) == winner


async def test_insufficient_funds(driver: Driver) -> None:
    """Sixty who want one of twenty-five: exactly twenty-five get it, posted and reserved alike."""
    await driver.made(driver.fund(25))
    answers = await at_once(
        *(
            driver.send(number, "POST", "/v1/entries", driver.spend(status=("posted", "pending")[number % 3 == 0]))
            for number in range(60)
        ),
    )
    assert Counter(each.code for each in answers) == {"": 25, "insufficient_funds": 35}
    assert await driver.amount(driver.wallet, at=1, balance="available") == 0


async def test_reference_conflict(driver: Driver) -> None:
    """An external id that is taken stays taken, at either gateway, until its entry is given up."""
    first = await driver.made(driver.fund(3, external_id="r", status="pending"))
    for at in (0, 1):
        again = await driver.send(at, "POST", "/v1/entries", driver.fund(3, external_id="r"))
        assert again.code == "duplicate_entry"
        assert first["id"] in again.body["detail"]
    await driver.site.ask("POST", f"/v1/entries/{first['id']}/archive", {}, at=1)
    await driver.made(driver.fund(4, external_id="r"))
    assert (await driver.send(1, "POST", "/v1/entries", driver.fund(4, external_id="r"))).code == "duplicate_entry"


async def test_reference_race(driver: Driver) -> None:
    """Twenty requests of twenty keys with one external id at once make one entry."""
    answers = await at_once(
        *(
            driver.send(number, "POST", "/v1/entries", driver.fund(number + 1, external_id="r"), key=f"k{number}")
            for number in range(20)
        ),
    )
    assert Counter(each.code for each in answers) == {"": 1, "duplicate_entry": 19}
    assert len(await listed(driver.site, "/v1/entries?external_id=r")) == 1


async def test_revert_concurrent(driver: Driver) -> None:
    """Twenty reversals of one entry at once: one is posted, nineteen change nothing."""
    entry = await driver.made(driver.fund(9))
    path = f"/v1/entries/{entry['id']}/reverse"
    answers = await at_once(*(driver.send(number, "POST", path, {}, key=f"k{number}") for number in range(20)))
    assert Counter(each.code for each in answers) == {"": 1, "entry.already_reversed": 19}
    [mirror] = [each.body for each in answers if each.status == 201]
    assert (await driver.site.ask("GET", f"/v1/entries/{entry['id']}", at=1))["reversed_by"] == mirror["id"]
    assert await driver.amount(driver.wallet) == 0


async def test_revert_idempotent(driver: Driver) -> None:
    """A reversal that is sent again with its key, before and after it is done, is answered the same."""
    entry = await driver.made(driver.fund(9))
    path = f"/v1/entries/{entry['id']}/reverse"
    answers = await at_once(*(driver.send(number, "POST", path, {}, key="once") for number in range(12)))
    answers += await at_once(*(driver.send(number, "POST", path, {}, key="once") for number in range(2)))
    assert {(each.status, each.body["id"]) for each in answers} == {(201, answers[0].body["id"])}
    assert Counter(each.replayed for each in answers) == {True: 13, False: 1}
    assert await driver.amount(driver.wallet) == 0


async def test_revert_sequential(driver: Driver) -> None:
    """A reversal may be reversed, each once; a refused one changes no balance, also where the money is gone."""
    entry = await driver.made(driver.fund(9))
    spent = await driver.made(driver.spend(4))
    refused = await driver.send(1, "POST", f"/v1/entries/{entry['id']}/reverse", {})
    assert refused.code == "insufficient_funds"
    assert await driver.amount(driver.wallet) == 5
    for at, entry_id in enumerate((spent["id"], entry["id"])):
        entry = await driver.site.ask("POST", f"/v1/entries/{entry_id}/reverse", {}, at=at)
        again = await driver.send(at + 1, "POST", f"/v1/entries/{entry_id}/reverse", {})
        assert again.code == "entry.already_reversed"
    assert await driver.amount(driver.wallet, at=1) == 0
    await driver.site.ask("POST", f"/v1/entries/{entry['id']}/reverse", {})
    assert await driver.amount(driver.wallet, at=1) == 9


async def test_list_completeness(driver: Driver) -> None:
    """Pages read while others write show what was there before them once, and nothing twice."""
    before = {(await driver.made(driver.fund(), at=number % 2))["id"] for number in range(20)}
    done = asyncio.Event()
    written: list[str] = []

    async def write(at: int) -> None:
        while not done.is_set():
            written.append((await driver.made(driver.fund(), at=at))["id"])

    async with asyncio.timeout(BOUND_S), asyncio.TaskGroup() as group:
        for at in (0, 1):
            group.create_task(write(at))
        for number in range(4):
            seen = [entry["id"] for entry in await listed(driver.site, "/v1/entries", at=number % 2, limit=7)]
            assert len(set(seen)) == len(seen)
            assert before <= set(seen)
            assert seen == sorted(seen, reverse=True)
        done.set()
    everything = {entry["id"] for entry in await listed(driver.site, "/v1/entries")}
    assert everything == before | set(written)


async def test_stale_reads(driver: Driver) -> None:
    """What one gateway has acknowledged the other one shows, at once and for ever after."""

    async def follow(number: int) -> None:
        seen = 0
        for step in range(8):
            entry = await driver.made(driver.fund(), at=number + step)
            other = (number + step + 1) % 2
            shown = await driver.site.ask("GET", f"/v1/entries/{entry['id']}", at=other)
            assert shown["lines"] == entry["lines"]
            balance = await driver.site.ask("GET", f"/v1/accounts/{driver.wallet}/balance", at=other)
            [version] = [x["account_lock_version"] for x in entry["lines"] if x["account_id"] == driver.wallet]
            assert balance["lock_version"] >= max(version, seen)
            seen = balance["lock_version"]

    async with asyncio.timeout(BOUND_S):
        await asyncio.gather(*(follow(number) for number in range(6)))


async def test_timestamp_order(driver: Driver) -> None:
    """Along the feed time never runs backwards, and an account's versions follow it, whoever wrote."""
    await at_once(*(driver.send(number, "POST", "/v1/entries", driver.fund()) for number in range(60)))
    told = await events(driver.site)
    times = [each["timestamp"] for each in told]
    assert times == sorted(times)
    versions = [
        line["account_lock_version"]
        for each in told
        if each["type"] == "entry.posted"
        for line in each["data"]["lines"]
        if line["account_id"] == driver.wallet
    ]
    assert versions == sorted(set(versions))


async def test_stats_consistency(driver: Driver) -> None:
    """Sums read while others write agree in themselves: every answer is of one moment, the one that its cursor names."""
    site, done = driver.site, asyncio.Event()
    category = await site.ask(
        "POST", "/v1/account_categories", {"name": "All", "currency": "USD", "normal_balance": "debit"}
    )
    for account in await listed(site, "/v1/accounts"):
        await site.ask("PUT", f"/v1/account_categories/{category['id']}/accounts/{account['id']}")
    [ledger] = (await site.ask("GET", "/v1/ledgers"))["data"]

    moments: list[tuple[int, list[Any]]] = []

    async def shown_at(path: str, at: int) -> Any:
        async with site.http.get(site.urls[at] + path, headers=site.headers) as answer:
            shown = await answer.json()
            sequence = parse_feed_cursor(answer.headers["x-gledger-feed-cursor"]).sequence
            moments.append((sequence, shown.get("data", [shown])))
            return shown

    async def write(at: int) -> None:
        while not done.is_set():
            await driver.made(driver.fund(at + 1, status=("posted", "pending")[at]), at=at)

    async with asyncio.timeout(BOUND_S), asyncio.TaskGroup() as group:
        for at in (0, 1):
            group.create_task(write(at))
        for number in range(24):
            accounts = await shown_at("/v1/accounts", at=number % 2)
            for account in accounts["data"]:
                await shown_at(f"/v1/accounts/{account['id']}", at=number % 2)
            accounts = accounts["data"]
            for name in ("posted", "pending"):
                assert sum(x["balances"][name]["debits"] - x["balances"][name]["credits"] for x in accounts) == 0
            [sums] = (await site.ask("GET", f"/v1/ledgers/{ledger['id']}/trial_balance", at=number % 2))["sums"]
            assert (sums["debits"], sums["debit_balance"]) == (sums["credits"], sums["credit_balance"])
            shown = await site.ask("GET", f"/v1/account_categories/{category['id']}", at=number % 2)
            assert {balance["amount"] for name, balance in shown["balances"].items() if name != "available"} == {0}
        done.set()
    shown = (await site.ask("GET", f"/v1/account_categories/{category['id']}"))["balances"]["posted"]
    accounts = await listed(site, "/v1/accounts")
    assert shown["debits"] == sum(account["balances"]["posted"]["debits"] for account in accounts)
    told = await events(site)
    for sequence, some in moments:
        then = rebuilt(told[:sequence])
        for account in some:
            assert [account["balances"]["posted"][side] for side in SIDES] == then[account["id"]]


async def test_hold_race(driver: Driver) -> None:
    """Of captures, releases and an expiry that meet at both gateways one ends each hold; the others are told how it ended."""
    await driver.made(driver.fund(1_000))
    held: list[str] = []
    soon = datetime.now(UTC) + timedelta(seconds=3)
    for number in range(12):
        # Every third one runs out while it is fought over.
        made = await driver.send(
            number, "POST", "/v1/holds", driver.spend(10, **({} if number % 3 else {"expires_at": soon.isoformat()}))
        )
        assert made.status == 201, made
        held.append(made.body["id"])
    await until(lambda: datetime.now(UTC) >= soon - timedelta(milliseconds=30))
    answers = await at_once(
        *(
            driver.send(at + turn, "POST", f"/v1/holds/{hold}/{verb}", {"final": True} if verb == "capture" else {})
            for turn, hold in enumerate(held)
            for at, verb in enumerate(("capture", "release", "capture", "release"))
        ),
    )

    async def all_ended() -> bool:
        shown.update((each["id"], each) for each in await listed(driver.site, "/v1/holds", at=1))
        return all(each["status"] != "open" for each in shown.values())

    shown: dict[str, Any] = {}
    await until(all_ended)
    for number, hold in enumerate(held):
        mine = answers[number * 4 : number * 4 + 4]
        assert Counter(each.code for each in mine) in ({"": 1, "hold.not_open": 3}, {"hold.not_open": 4})
        winners = [each.body["status"] for each in mine if each.status == 200]
        assert [shown[hold]["status"]] == (winners or ["expired"])
        assert number % 3 == 0 or winners
    told = await events(driver.site)
    ends = Counter(
        each["resource"]["id"] for each in told if each["type"] in {"hold.captured", "hold.released", "hold.expired"}
    )
    assert ends == dict.fromkeys(held, 1)


async def test_acceptance_order(driver: Driver) -> None:
    """What both gateways accept at once is dealt with once each, in the order in which it was accepted."""
    await driver.made(driver.fund(20))
    later = {**driver.site.headers, "prefer": "respond-async"}

    async def accept(number: int) -> Answer:
        url = f"{driver.site.urls[number % 2]}/v1/entries"
        async with driver.site.http.post(url, json=driver.spend(external_id=f"a{number}"), headers=later) as answer:
            return Answer(status=answer.status, body=await answer.json(), replayed=False)

    answers = await at_once(*(accept(number) for number in range(40)))
    assert [each.status for each in answers] == [202] * 40
    accepted = {each.body["id"] for each in answers}

    async def all_done() -> bool:
        return all(each["status"] != "accepted" for each in await listed(driver.site, "/v1/entries", at=1))

    await until(all_done)
    told = [each for each in await events(driver.site) if each["resource"]["id"] in accepted]
    order = [each["resource"]["id"] for each in told if each["type"] == "entry.created"]
    ends = [(each["resource"]["id"], each["type"]) for each in told if each["type"] != "entry.created"]
    # There is enough for half of them: it goes to the first ones.
    assert ends == [(name, "entry.posted" if n < 20 else "entry.rejected") for n, name in enumerate(order)]
    assert set(order) == accepted


async def test_lock_version_race(driver: Driver) -> None:
    """Of all who have seen the same version one is right; who looks again has the next turn."""
    for turn in range(5):
        seen = (await driver.site.ask("GET", f"/v1/accounts/{driver.wallet}/balance", at=turn % 2))["lock_version"]
        body = driver.fund()
        body["lines"] = [
            line | {"lock_version": seen} if line["account_id"] == driver.wallet else line for line in body["lines"]
        ]
        answers = await at_once(*(driver.send(number, "POST", "/v1/entries", body) for number in range(8)))
        assert Counter(each.code for each in answers) == {"": 1, "lock_version_conflict": 7}
        assert await driver.amount(driver.wallet, at=turn % 2) == turn + 1


async def test_exchange_race(driver: Driver) -> None:
    """The first exchanges of a ledger meet at both gateways: its own accounts are opened once, and balance."""
    [ledger] = (await driver.site.ask("GET", "/v1/ledgers"))["data"]
    euros = await driver.site.ask(
        "POST", "/v1/accounts", {"ledger_id": ledger["id"], "name": "E", "type": "liability", "currency": "EUR"}
    )
    rate = await driver.site.ask("POST", "/v1/fx_rates", {"base": "USD", "quote": "EUR", "rate": "0.9"})
    body = {"lines": driver.lines(driver.cash, euros["id"], 15), "fx_rate_id": rate["id"]}
    body["lines"][1]["amount"] = 13
    answers = await at_once(*(driver.send(number, "POST", "/v1/entries", body) for number in range(20)))
    assert [each.status for each in answers] == [201] * 20
    own = [each for each in await listed(driver.site, "/v1/accounts", at=1) if each["purpose"] is not None]
    assert sorted((each["purpose"], each["currency"], each["balances"]["posted"]["amount"]) for each in own) == [
        ("fx_clearing", "EUR", -20 * 13), ("fx_clearing", "USD", 20 * 15),
    ]  # fmt: skip


async def test_handler_race(driver: Driver) -> None:
    """A handler changes while events come in at both gateways: each is handled by the version in force at its place in the feed."""
    await driver.made(driver.fund(1_000))

    def entries(amount: int) -> list[Any]:
        return [{"lines": driver.lines(driver.wallet, driver.cash, amount)}]

    handler = await driver.site.ask(
        "POST",
        "/v1/event_handlers",
        {"name": "h", "conditions": {"field": "event.name", "operator": "equals", "value": "e"}, "entries": entries(1)},
    )
    changes = [
        driver.send(number, "PATCH", f"/v1/event_handlers/{handler['id']}", {"entries": entries(number + 2)})
        for number in range(5)
    ]
    sent = [driver.send(number, "POST", "/v1/business_events", {"name": "e"}) for number in range(40)]
    mixed = [each for start in range(5) for each in (*sent[start * 8 : start * 8 + 8], changes[start])]
    answers = await at_once(*mixed)
    assert {each.status for each in answers} <= {200, 201}, [each.body for each in answers if each.status > 201]
    version, amount = 1, 1
    for each in await events(driver.site):
        if each["type"] == "event_handler.updated":
            version, amount = each["data"]["lock_version"], each["data"]["entries"][0]["lines"][0]["amount"]
        elif each["type"] == "business_event.created":
            assert each["data"]["event_handler_version"] == version
            assert {line["amount"] for line in each["data"]["entries"][0]["lines"]} == {amount}
    assert version == 6


async def test_eventually_correct(driver: Driver) -> None:
    """Anything at once from every side, each request where it likes; afterwards all accounts for all."""
    await driver.made(driver.fund(500))
    dice = random.Random(7)
    done: Counter[str] = Counter()

    async def wander(number: int) -> None:
        mine = random.Random(dice.random())
        known: list[tuple[str, str]] = []
        for step in range(12):
            at = mine.randrange(2)
            kind, path, body = _next(driver, mine, known)
            answer = await driver.send(at, "POST", path, body, key=f"{number}-{step}")
            assert answer.status < 500, answer
            # What was done stays done; what was refused may be possible by now, and is then done once.
            again = await driver.send(at + 1, "POST", path, body, key=f"{number}-{step}")
            assert again.status < 500, again
            if answer.status < 300:
                assert (again.status, again.body, again.replayed) == (answer.status, answer.body, True)
            done[f"{kind} {again.code}"] += 1
            if again.status < 300 and kind in {"entry", "hold"}:
                known.append((kind, again.body["id"]))

    async with asyncio.timeout(BOUND_S):
        await asyncio.gather(*(wander(number) for number in range(16)))
    assert {kind.split()[0] for kind in done if kind.endswith(" ")} >= {"entry", "hold", "capture", "reverse"}
    told = await events(driver.site)
    assert rebuilt(told)[driver.wallet][1] >= 500


def _next(driver: Driver, dice: random.Random, known: list[tuple[str, str]]) -> tuple[str, str, dict[str, Any]]:
    """Return what to do next: something new, or something to one of those made before, whatever became of it."""
    holds = [name for kind, name in known if kind == "hold"]
    entries = [name for kind, name in known if kind == "entry"]
    choice = dice.random()
    if holds and choice < 0.25:
        name, verb = dice.choice(holds), dice.choice(["capture", "capture", "release"])
        body = {"amount": dice.randint(1, 6), "final": dice.random() < 0.5} if verb == "capture" else {}
        return verb, f"/v1/holds/{name}/{verb}", body
    if entries and choice < 0.5:
        name, verb = dice.choice(entries), dice.choice(["reverse", "reverse", "post", "archive"])
        return verb, f"/v1/entries/{name}/{verb}", {}
    if choice < 0.75:
        return "hold", "/v1/holds", {"lines": driver.lines(driver.wallet, driver.cash, dice.randint(1, 9))}
    amount, status = dice.randint(1, 9), dice.choice(["posted", "pending"])
    return "entry", "/v1/entries", dice.choice([driver.spend, driver.fund])(amount, status=status)
