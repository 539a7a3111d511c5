"""`gledger demo`: the whole story with real requests against a server that runs; every line is printed from what was seen.

A partner registers an endpoint, SendCash moves money, each entry arrives as a signed webhook and on a stream; a key is
repeated, the partner goes away and comes back, the stream is cut and resumes.
"""

from __future__ import annotations

import asyncio
import secrets
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import aiohttp

from gledger.demo_partner import Partner, Stream
from gledger.errors import ProgramError
from gledger.sites import CredentialsFile, read_credentials

RETRY_SCHEDULE: Final = "0,1,2,4,8,15,30,60"
WAIT_S: Final = 60.0


class StoryBroken(ProgramError):
    """Something did not come out as it must."""


def load(path: Path) -> CredentialsFile:
    """Return the credentials to tell the story with; raises ProgramError where there are none."""
    found = read_credentials(path)
    if found is None:
        raise ProgramError(
            f"there are no credentials at {path}: start `gledger dev`, or name another file with --credentials"
        )
    return found


async def tell(credentials: CredentialsFile, path: Path) -> bool:
    """Tell the story, then say how to go on; return whether everything came out as it must."""
    _say(f"GLedger Live at {credentials.base_url}, site {credentials.organization}/{credentials.environment}")
    try:
        async with _opened(credentials) as story:
            await story.set_up()
            await story.move_money()
            await story.repeat_a_key()
            await story.lose_the_partner()
            await story.cut_the_stream()
            await story.leave()
    except (ProgramError, aiohttp.ClientError, TimeoutError, OSError) as error:
        print(f"The story broke off: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
        return False
    _say_how_to_go_on(credentials, path, story.cash, story.jane)
    return True


@asynccontextmanager
async def _opened(credentials: CredentialsFile) -> AsyncIterator[_Story]:
    async with AsyncExitStack() as held:
        session = await held.enter_async_context(aiohttp.ClientSession(credentials.base_url))
        story = _Story(credentials, session)
        held.push_async_callback(story.close)
        yield story


class _Story:
    """What happens, in order, and what each step found."""

    def __init__(self, credentials: CredentialsFile, session: aiohttp.ClientSession) -> None:
        self._credentials = credentials
        self._session = session
        self._run = secrets.token_hex(4)
        self._headers: dict[str, str] = {}
        self._partner = Partner()
        self._stream: Stream | None = None
        self._endpoint_id = ""
        self.cash = self.jane = self._john = ""

    async def close(self) -> None:
        """End the partner and the stream."""
        if self._stream is not None:
            await self._stream.cut()
        await self._partner.stop()

    async def set_up(self) -> None:
        """Get a token, register the partner's endpoint, follow the feed, open SendCash's books."""
        form = {"grant_type": "client_credentials"}
        basic = aiohttp.encode_basic_auth(self._credentials.client_id, self._credentials.client_secret)
        async with self._session.post("/oauth/token", data=form, headers={"authorization": basic}) as answer:
            token = await answer.json()
            if answer.status != 200:
                raise StoryBroken(f"no access token: {token}")
        self._headers = {"authorization": f"Bearer {token['access_token']}"}
        _say(f"1. An access token for {token['expires_in']} s, scopes: {token['scope']}")
        await self._partner.start()
        endpoint = await self._post("/v1/webhook_endpoints", {"url": self._partner.url, "event_types": ["entry.*"]})
        self._partner.secret = endpoint["secret"]
        self._endpoint_id = endpoint["id"]
        _say(f"2. The partner's endpoint {endpoint['id']} at {self._partner.url}, subscribed to entry.*")
        self._stream = Stream(self._session, self._headers)
        cursor = await self._stream.open()
        _say(f"3. A dashboard follows the feed over SSE from {cursor}")
        ledger = await self._post(
            "/v1/ledgers", {"name": "SendCash Ledger", "description": "Our funds and user balances"}
        )
        self.cash = await self._account(ledger["id"], "Cash Account", "asset", allow_negative=True)
        self.jane = await self._account(ledger["id"], "Jane Doe Wallet", "liability", allow_negative=False)
        self._john = await self._account(ledger["id"], "John Doe Wallet", "liability", allow_negative=False)
        _say("4. The SendCash Ledger with Cash Account, Jane Doe Wallet, John Doe Wallet, all in USD")

    async def move_money(self) -> None:
        """Post the deposit, the transfer and the withdrawal; see each one arrive."""
        for number, (what, debit, credit, amount) in enumerate(
            (
                ("Jane deposits", self.cash, self.jane, 10_000),
                ("Jane sends to John", self.jane, self._john, 2_500),
                ("John withdraws", self._john, self.cash, 1_000),
            ),
            5,
        ):
            entry = await self._entry(what, debit, credit, amount)
            _say(
                f"{number}. {what} {_usd(amount)}: entry {entry['id']} {entry['status']}; {_balances(entry, self._names())}"
            )
            await self._see_arrive(entry)

    async def repeat_a_key(self) -> None:
        """Send a request again with its key: nothing is posted, the first answer comes back."""
        body = _lines(self.cash, self.jane, 500)
        key = {"idempotency-key": f"{self._run}-repeated"}
        first, _ = await self._send("POST", "/v1/entries", body, key)
        again, headers = await self._send("POST", "/v1/entries", body, key)
        if again != first or headers.get("idempotent-replayed") != "true":
            raise StoryBroken("a repeated key posted twice")
        await self._see_arrive(first)
        _say(f"8. The same key again posts nothing: entry {again['id']} once more, Idempotent-Replayed: true")

    async def lose_the_partner(self) -> None:
        """Stop the partner's receiver, post, start it again: the missed delivery is retried."""
        await self._partner.stop()
        entry = await self._entry("While the partner is away", self.cash, self.jane, 700)
        delivery = await self._delivery_in({"retrying"}, entry["id"])
        attempts = (await self._get(f"/v1/deliveries/{delivery['id']}/attempts"))["data"]
        _say(
            f"9. The partner is away: delivery {delivery['id']} is {delivery['status']} after {attempts[-1]['error_class']}"
        )
        await self._partner.start()
        received = await self._partner.receive(entry["id"], WAIT_S)
        delivery = await self._delivery_in({"delivered"}, entry["id"])
        _say(
            f"   The partner is back: attempt {received.attempt} delivered it, {delivery['attempts']} attempts in all, "
            f"the same webhook-id {received.webhook_id}"
        )
        await self._on_stream(entry["id"])

    async def cut_the_stream(self) -> None:
        """Cut the stream, post meanwhile, resume: nothing is missing and nothing comes twice."""
        if self._stream is None:
            raise StoryBroken("there is no stream")
        cursor = await self._stream.cut()
        missed = [(await self._entry(f"Unseen {each}", self.cash, self.jane, 100))["id"] for each in ("one", "two")]
        await self._stream.open()
        for entry_id in missed:
            await self._on_stream(entry_id)
        sequences = self._stream.sequences
        if sequences != list(range(sequences[0], sequences[0] + len(sequences))):
            raise StoryBroken(f"the stream has a gap or a duplicate: {sequences}")
        _say(
            f"10. The stream was cut at {cursor} and resumed: sequences {sequences[0]} to {sequences[-1]}, none missing"
        )

    async def leave(self) -> None:
        """Remove the endpoint: its partner lives only as long as the story."""
        received = self._partner.endpoint_sequences
        await self._send("DELETE", f"/v1/webhook_endpoints/{self._endpoint_id}", None, {})
        whole = sorted(set(received)) == list(range(1, max(received) + 1))
        if not whole:
            raise StoryBroken(f"the partner misses a delivery: {sorted(received)}")
        _say(f"11. The partner has endpoint sequences 1 to {max(received)} without a gap, every signature verified")

    async def _see_arrive(self, entry: dict[str, Any]) -> None:
        received = await self._partner.receive(entry["id"], WAIT_S)
        _say(
            f"   webhook {received.event_type}, signature verified, delivery {received.delivery_id}, "
            f"sequence {received.sequence}, endpoint sequence {received.endpoint_sequence}"
        )
        await self._on_stream(entry["id"])

    async def _on_stream(self, entry_id: str) -> None:
        if self._stream is None:
            raise StoryBroken("there is no stream")
        event = await self._stream.event_about(entry_id, WAIT_S)
        _say(f"   stream  {event['type']} at sequence {event['sequence']}")

    async def _delivery_in(self, states: set[str], entry_id: str) -> dict[str, Any]:
        """Return the delivery about an entry when it is in one of these states."""
        async with asyncio.timeout(WAIT_S):
            while True:
                page = await self._get(f"/v1/deliveries?endpoint_id={self._endpoint_id}&include=event")
                for delivery in page["data"]:
                    if delivery["event"]["resource"]["id"] == entry_id and delivery["status"] in states:
                        found: dict[str, Any] = delivery
                        return found
                await asyncio.sleep(0.1)

    async def _account(self, ledger_id: str, name: str, kind: str, *, allow_negative: bool) -> str:
        body = {"ledger_id": ledger_id, "name": name, "type": kind, "currency": "USD", "allow_negative": allow_negative}
        made = await self._post("/v1/accounts", body)
        return str(made["id"])

    async def _entry(self, what: str, debit: str, credit: str, amount: int) -> dict[str, Any]:
        return await self._post("/v1/entries", {**_lines(debit, credit, amount), "description": what})

    async def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        made, _ = await self._send("POST", path, body, {"idempotency-key": f"{self._run}-{secrets.token_hex(8)}"})
        return made

    async def _get(self, path: str) -> dict[str, Any]:
        found, _ = await self._send("GET", path, None, {})
        return found

    async def _send(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None,
        headers: dict[str, str],
    ) -> tuple[dict[str, Any], Any]:
        async with self._session.request(method, path, json=body, headers={**self._headers, **headers}) as answer:
            if answer.status == 204:
                return {}, answer.headers
            found: dict[str, Any] = await answer.json(content_type=None)
            if answer.status >= 400:
                raise StoryBroken(f"{method} {path} answered {answer.status}: {found}")
            return found, answer.headers

    def _names(self) -> dict[str, str]:
        return {self.cash: "cash", self.jane: "Jane", self._john: "John"}


def _lines(debit: str, credit: str, amount: int) -> dict[str, Any]:
    return {
        "lines": [
            {"account_id": debit, "direction": "debit", "amount": amount},
            {"account_id": credit, "direction": "credit", "amount": amount},
        ],
    }


def _balances(entry: dict[str, Any], names: dict[str, str]) -> str:
    told = (
        f"{names[line['account_id']]} {_usd(line['resulting_balances']['posted']['amount'])}" for line in entry["lines"]
    )
    return "now " + ", ".join(told)


def _usd(cents: int) -> str:
    return f"${cents / 100:,.2f}"


def _say(line: str) -> None:
    print(line, flush=True)


def _say_how_to_go_on(credentials: CredentialsFile, path: Path, debit: str, credit: str) -> None:
    read = f"import json; c = json.load(open('{path}')); print(c['client_id'] + ':' + c['client_secret'])"
    pick = "import json, sys; print(json.load(sys.stdin)['access_token'])"
    base = credentials.base_url
    _say(f"\nThe server is at {base} (explorer: {base}/docs). Credentials: {path}\n")
    _say(
        f'TOKEN=$(curl -s {base}/oauth/token -u "$(python3 -c "{read}")" -d grant_type=client_credentials'
        f' | python3 -c "{pick}")'
    )
    lines = (
        f'{{"lines": [{{"account_id": "{debit}", "direction": "debit", "amount": 1500}},'
        f' {{"account_id": "{credit}", "direction": "credit", "amount": 1500}}]}}'
    )
    _say(
        f'curl -s {base}/v1/entries -H "Authorization: Bearer $TOKEN" -H "Idempotency-Key: my-first-entry"'
        f" -H 'Content-Type: application/json' -d '{lines}'"
    )
    _say(f'curl -sN "{base}/v1/events/stream?from=start" -H "Authorization: Bearer $TOKEN"')
