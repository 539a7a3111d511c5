"""The commands that speak to a server, as real processes against real servers: what they do, and how they fail."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from delivery.signing import parse_verifying_key, verify
from tests.fakes.receiver import SERVER_ERROR, Received, Receiver
from tests.journeys.conftest import Production, SiteClient
from tests.processes import Finished, Program, run, until

BODY: Final = b'{"test": 2432232314}'
SECRET: Final = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
SIGNED: Final = ("--id", "msg_p5jXN8AQM9LWM0D4loKWxJek", "--timestamp", "1614265330")
SIGNATURE: Final = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def environ(site: SiteClient, folder: Path, at: int = 0) -> dict[str, str]:
    """Return what a person has in their environment."""
    return {
        "GLEDGER_BASE_URL": site.urls[at],
        "GLEDGER_API_KEY": site.credentials.api_key,
        "XDG_STATE_HOME": str(folder / "state"),
    }


@contextmanager
def listening(site: SiteClient, folder: Path, *arguments: str, at: int = 0) -> Iterator[Program]:
    """Run `gledger listen` for the block; what it printed before is gone."""
    log = folder / "listen.log"
    log.unlink(missing_ok=True)
    program = Program("listen", *arguments, environ=environ(site, folder, at), log=log)
    program.start()
    try:
        yield program
    finally:
        program.close()


async def _printed(program: Program, pattern: str) -> str:
    async def printed() -> str | None:
        found = re.search(pattern, program.tail(), re.MULTILINE)
        assert program.running, program.tail()
        return found.group(0) if found else None

    return await until(printed, timeout_s=30)


async def _trigger(site: SiteClient, folder: Path, event_type: str = "entry.posted") -> str:
    done = await run("trigger", event_type, "--json", environ=environ(site, folder))
    assert done.code == 0, done.err
    return str(json.loads(done.out)["id"])


def _about(got: Received) -> str:
    return str(json.loads(got.body)["resource"]["id"])


async def test_listen_forwards_what_was_missed_over_its_own_death_and_the_servers(
    production: Production, site: SiteClient, receiver: Receiver, tmp_path: Path
) -> None:
    """Signed with one secret for ever; killed, it goes on where it stopped; a server that restarts is only waited for."""
    port = production.gateways[0].url.rpartition(":")[2]
    gateway = production.deployment.gateway()
    await gateway.ready()
    own = SiteClient(http=site.http, urls=[gateway.url, site.urls[1]], credentials=site.credentials)
    assert port not in gateway.url
    asked = ("--forward-to", receiver.url("/hook"), "--types", "entry.*", "--print-secret", "--json")
    first = await _trigger(site, tmp_path)
    with listening(own, tmp_path, *asked, "--since", "start") as program:
        secret = await _printed(program, r"^whsec_\S+$")
        (got,) = await receiver.wait_for_count(1, timeout_s=30)
        assert _about(got) == first
        verify([parse_verifying_key(secret)], got.headers, got.body, float(got.headers["webhook-timestamp"]))

        async def kept() -> Any:
            found = list((tmp_path / "state" / "gledger").glob("listen-*.json"))
            return json.loads(found[0].read_text()).get("cursor") if found else None

        await until(kept, timeout_s=30)
        program.kill()
    second = await _trigger(site, tmp_path)
    with listening(own, tmp_path, *asked, "--replay-missed") as program:
        assert await _printed(program, r"^whsec_\S+$") == secret
        await receiver.wait_for(lambda arrived: second in map(_about, arrived.received), timeout_s=30)
        await gateway.stop()
        third = await _trigger(site, tmp_path, "entry.created")
        gateway.start()
        await gateway.ready()
        await receiver.wait_for(lambda arrived: third in map(_about, arrived.received), timeout_s=60)
        await _printed(program, r'"type":"entry.created".*"status":200')
    assert list(dict.fromkeys(map(_about, receiver.received))) == [first, second, third]


async def test_listen_waits_for_the_program_it_forwards_to(
    production: Production, site: SiteClient, receiver: Receiver, tmp_path: Path
) -> None:
    """A program that is not there yet is waited for; one that answers with an error is told of, and the next event follows."""
    receiver.script("/hook", SERVER_ERROR)
    await receiver.stop()
    first = await _trigger(site, tmp_path)
    with listening(site, tmp_path, "--forward-to", receiver.url("/hook"), "--since", "start") as program:
        await _printed(program, "waiting for it")
        await receiver.start()
        await receiver.wait_for(lambda arrived: first in map(_about, arrived.received), timeout_s=30)
        await _printed(program, "→ 500")


async def test_deliveries_are_listed_shown_and_replayed(
    production: Production, site: SiteClient, receiver: Receiver, tmp_path: Path
) -> None:
    """By id and by filter, counted first; `--wait` returns when each has its outcome."""
    known = environ(site, tmp_path)
    body = {"url": receiver.url("/hook"), "event_types": ["entry.*"]}
    endpoint = await site.ask("POST", "/v1/webhook_endpoints", body)
    await _trigger(site, tmp_path)
    await receiver.wait_for_count(1, timeout_s=30)

    async def delivered() -> Any:
        done = await run("deliveries", "ls", "--status", "delivered", "--json", environ=known)
        assert done.code == 0, done.err
        return json.loads(done.out) if done.out else None

    found = await until(delivered, timeout_s=30)
    table = await run("deliveries", "ls", environ=known)
    assert table.out.splitlines()[0].split() == "DELIVERY NUMBER EVENT STATUS ATTEMPTS LAST CREATED".split()
    assert found["id"] in table.out
    counted = await run("deliveries", "replay", "--endpoint", endpoint["id"], "--preview", environ=known)
    assert counted.out == "1 deliveries would be sent again\n"
    again = await run("deliveries", "replay", found["id"], "--wait", "--json", environ=known)
    assert (again.code, json.loads(again.out)["delivered"]) == (0, 1)
    assert len(receiver.received) == 2
    shown = await run("deliveries", "show", found["id"], environ=known)
    assert [line.split()[:2] for line in shown.out.splitlines()[-2:]] == [["1", "scheduled"], ["2", "replay"]]


async def test_the_feed_is_printed_and_a_reader_that_has_enough_is_no_failure(site: SiteClient, tmp_path: Path) -> None:
    """The stored bytes, one event a line, from the start."""
    await _trigger(site, tmp_path)
    program = Program(
        "events", "tail", "--since", "start", "--types", "entry.*", "--json",
        environ=environ(site, tmp_path), log=tmp_path / "tail.log",
    )  # fmt: skip
    program.start()
    try:

        async def printed() -> Any:
            lines = [line for line in program.tail().splitlines() if line.startswith("{")]
            return json.loads(lines[0]) if lines else None

        assert (await until(printed, timeout_s=30))["type"] == "entry.posted"
    finally:
        program.close()


@pytest.mark.parametrize(
    ("arguments", "settings", "code", "words"),
    [
        (("deliveries", "ls"), {"GLEDGER_BASE_URL": "http://127.0.0.1:9"}, 1, "http://127.0.0.1:9 does not answer"),
        (("deliveries", "ls"), {"GLEDGER_API_KEY": "glk_nonsense"}, 1, "refused (401 auth.invalid)"),
        (("deliveries", "ls", "--status", "lost"), {}, 1, "refused (422 validation.invalid_value)"),
        (("deliveries", "show", "01a1fd0b-eef6-7000-835e-95ab9f5c099d"), {}, 1, "refused (404 not_found)"),
        (("events", "tail", "--since", "v1.0.0.000000000000"), {}, 1, "refused (400 cursor.invalid)"),
        (("trigger", "entry.nonsense"), {}, 1, "cannot be triggered; one of account.created"),
        (("trigger", "entry.posted"), {"GLEDGER_API_KEY": "glk_nonsense"}, 1, "only a sandbox"),
        (("deliveries", "ls", "--credentials", "/nowhere.json"), {}, 1, "there are no credentials at /nowhere.json"),
    ],
)  # fmt: skip
async def test_what_cannot_be_done_is_told_in_one_line(
    site: SiteClient, tmp_path: Path, arguments: tuple[str, ...], settings: dict[str, str], code: int, words: str
) -> None:
    """No traceback, nothing on standard output, the exit code of a failure."""
    done = await run(*arguments, environ={**environ(site, tmp_path), **settings})
    assert (done.code, done.out) == (code, ""), done
    assert words in done.err
    assert len(done.err.splitlines()) == 1


async def test_a_body_is_signed_and_verified_without_a_server(tmp_path: Path) -> None:
    """The published vector; a clear verdict and exit code for what is genuine, old, changed, or of another key."""
    body = tmp_path / "body.json"
    body.write_bytes(BODY)
    signed = await run("webhooks", "sign", "--key", SECRET, *SIGNED, str(body), environ={})
    assert signed.out.splitlines()[-1] == f"webhook-signature: {SIGNATURE}"

    async def verified(*arguments: str, key: str = SECRET, signature: str = SIGNATURE) -> Finished:
        known = {"GLEDGER_WEBHOOK_KEY": key}
        return await run("webhooks", "verify", *SIGNED, "--signature", signature, *arguments, environ=known)

    genuine = await verified("--any-age", str(body))
    assert (genuine.code, genuine.out[:7]) == (0, "genuine")
    old = await verified(str(body))
    assert (old.code, old.out) == (1, "")
    assert "five minutes" in old.err
    body.write_bytes(BODY + b" ")
    changed = await verified("--any-age", str(body))
    assert (changed.code, "bytes that were changed" in changed.err) == (1, True)
    unreadable = await verified(str(body), key="whsec_")
    assert (unreadable.code, unreadable.err) == (1, "gledger: the key cannot be used: the secret is empty\n")
