"""What endpoints choose to receive, from the feed to the receiver, on SQLite and on PostgreSQL."""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator

import msgspec
import pytest

from delivery.errors import InvalidFilter, InvalidForm, InvalidTls
from delivery.forms import Form, Message, message
from delivery.replay_jobs import Replays
from delivery.replay_run import ReplayRunner
from delivery.replay_shapes import ReplayCreate
from delivery.shapes import Endpoint, EndpointChange, RotateSecret
from delivery.signing import parse_verifying_key, verify
from engine.databases import Database
from tests.fakes.certificates import Authority
from tests.fakes.receiver import OK, SERVER_ERROR, Received, Receiver
from tests.store.delivery_stage import SITE, Stage, make_stage

EU = {"path": "/data/metadata/region", "equals": "eu"}


@pytest.fixture
async def stage(site_database: Database) -> AsyncIterator[Stage]:
    """A site with an empty feed."""
    made = await make_stage(site_database)
    yield made
    await made.close()


async def _commit(stage: Stage, *regions: str) -> None:
    for region in regions:
        await stage.commit("entry.posted", data=msgspec.json.encode({"metadata": {"region": region}}))


def _change(**fields: object) -> EndpointChange:
    return msgspec.convert(fields, EndpointChange)


async def test_an_event_that_a_filter_passes_over_gets_no_row_and_no_number(stage: Stage, receiver: Receiver) -> None:
    """Numbers stay without a gap; another endpoint has them all; a test event passes any filter."""
    choosy = await stage.endpoint(receiver.url("/eu"), filter=EU)
    every = await stage.endpoint(receiver.url("/all"), "entry.*")
    await _commit(stage, "eu", "us", "eu")
    await stage.endpoints.test(SITE, choosy.id)
    await stage.deliver()
    assert [(row.endpoint_sequence, row.sequence) for row in await stage.rows(choosy.id)] == [(1, 1), (2, 3), (3, 4)]
    assert [row.sequence for row in await stage.rows(every.id)] == [1, 2, 3]


async def test_the_filter_in_force_at_an_event_decides_however_late_the_relay_is(
    stage: Stage, receiver: Receiver
) -> None:
    """A change counts from its own place in the feed; null is no filter."""
    endpoint = await stage.endpoint(receiver.url("/hook"), filter=EU)
    await _commit(stage, "us", "eu")
    changed = await stage.endpoints.change(SITE, endpoint.id, _change(filter={"not": EU}))
    assert changed.filter is not None
    await _commit(stage, "us", "eu")
    assert (await stage.endpoints.change(SITE, endpoint.id, _change(filter=None))).filter is None
    await _commit(stage, "us", "eu")
    await stage.deliver()
    assert [row.sequence for row in await stage.rows(endpoint.id)] == [2, 3, 5, 6]


async def test_a_catch_up_keeps_to_the_filter(stage: Stage, receiver: Receiver) -> None:
    """What the endpoint would not be sent now it is not sent later either."""
    await _commit(stage, "eu", "us")
    endpoint = await stage.endpoint(receiver.url("/hook"), filter=EU)
    await stage.deliver()
    draft = msgspec.convert({"catch_up": {"endpoint_id": endpoint.id}}, ReplayCreate)
    await Replays(stage.databases, clock=stage.clock, ids=stage.ids).create(SITE, draft)
    await ReplayRunner(stage.databases, clock=stage.clock, ids=stage.ids).step(SITE)
    await stage.deliver()
    assert [row.sequence for row in await stage.rows(endpoint.id)] == [1]


async def test_each_endpoint_is_sent_its_own_form_under_a_signature_of_what_is_sent(
    stage: Stage, receiver: Receiver
) -> None:
    """Thin, chosen members, CloudEvents, compressed: signed over the bytes on the wire; a change counts at once."""
    forms: dict[str, dict[str, object]] = {
        "/thin": {"payload": "thin"},
        "/chosen": {"payload": ["/data/metadata"]},
        "/cloud": {"format": "cloudevents"},
        "/binary": {"format": "cloudevents_binary"},
        "/gzip": {"compression": "gzip"},
    }
    made = {path: await stage.endpoint(receiver.url(path), **options) for path, options in forms.items()}
    await _commit(stage, "eu")
    await stage.deliver()
    got = {path: receiver.at(path)[0] for path in forms}
    for path, endpoint in made.items():
        _verify(stage, endpoint, got[path])
    (row,) = await stage.rows(made["/thin"].id)
    event = (await stage.log.delivery(SITE, row.id, include_event=True)).event
    assert isinstance(event, msgspec.Raw)
    assert set(msgspec.json.decode(got["/thin"].body)) == {"id", "type", "sequence", "timestamp", "resource"}
    assert msgspec.json.decode(got["/chosen"].body)["data"] == {"metadata": {"region": "eu"}}
    assert msgspec.json.decode(got["/cloud"].body)["data"] == msgspec.json.decode(event)
    assert (got["/binary"].headers["ce-id"], got["/binary"].body) == (row.event_id, bytes(event))
    assert gzip.decompress(got["/gzip"].body) == bytes(event)
    await stage.endpoints.change(SITE, made["/thin"].id, _change(payload=None))
    await _commit(stage, "eu")
    await stage.deliver()
    assert "data" in msgspec.json.decode(receiver.at("/thin")[1].body)


def _verify(stage: Stage, endpoint: Endpoint, got: Received, *keys: str) -> None:
    known = keys or (str(endpoint.secret),)
    verify([parse_verifying_key(key) for key in known], got.headers, got.body, stage.clock.now_us() / 1e6)


async def test_a_public_key_verifies_and_rotates_with_overlap_and_expiry(stage: Stage, receiver: Receiver) -> None:
    """From one kind to the other and back: both sign until the overlap ends, no private key is ever shown."""
    endpoint = await stage.endpoint(receiver.url("/hook"), signature="v1a")
    assert endpoint.secret is None
    (first,) = endpoint.signing_keys
    assert first.public_key is not None
    assert (first.signature, first.public_key[:5], first.expires_at) == ("v1a", "whpk_", None)
    await _commit(stage, "eu")
    await stage.deliver()
    _verify(stage, endpoint, receiver.received[0], first.public_key)
    written = await stage.endpoints.rotate_secret(SITE, endpoint.id, RotateSecret(signature="v1", overlap_s=60))
    rotated = msgspec.json.decode(written.body, type=Endpoint)
    assert [one.signature for one in rotated.signing_keys] == ["v1", "v1a"]
    await _commit(stage, "eu")
    await stage.deliver()
    for key in (str(rotated.secret), first.public_key):
        _verify(stage, rotated, receiver.received[1], key)
    stage.clock.advance(seconds=60)
    await _commit(stage, "eu")
    await stage.deliver()
    assert receiver.received[2].headers["webhook-signature"].startswith("v1,")
    assert " " not in receiver.received[2].headers["webhook-signature"]
    again = await stage.endpoints.rotate_secret(SITE, endpoint.id, RotateSecret(overlap_s=0))
    at_once = msgspec.json.decode(again.body, type=Endpoint)
    assert [one.signature for one in at_once.signing_keys] == ["v1"]
    assert at_once.secret != rotated.secret


@pytest.mark.parametrize(
    ("options", "refused"),
    [
        ({"filter": {"path": "/a"}}, InvalidFilter),
        ({"format": "cloudevents_binary", "max_batch": 2}, InvalidForm),
    ],
)
async def test_options_that_mean_nothing_are_refused_at_registration_and_at_change(
    stage: Stage, receiver: Receiver, options: dict[str, object], refused: type[Exception]
) -> None:
    """Nothing is stored of them."""
    with pytest.raises(refused):
        await stage.endpoint(receiver.url("/hook"), **options)
    endpoint = await stage.endpoint(receiver.url("/hook"))
    with pytest.raises(refused):
        await stage.endpoints.change(SITE, endpoint.id, _change(**options))
    assert (await stage.endpoints.get(SITE, endpoint.id)).lock_version == 1


async def test_events_of_one_stretch_of_time_go_together_and_settle_themselves(
    stage: Stage, receiver: Receiver
) -> None:
    """One signed request of at most so many, in order; a failure is each delivery's own, and is retried together."""
    receiver.script("/hook", SERVER_ERROR, OK)
    endpoint = await stage.endpoint(receiver.url("/hook"), max_batch=3, max_wait_ms=500)
    await _commit(stage, "eu", "us")
    assert (await stage.relay().run(SITE)).next_due_at is not None
    await _commit(stage, "eu", "us")
    await stage.deliver()
    assert receiver.received == []
    stage.clock.advance(seconds=0.5)
    await stage.deliver()
    first, second = sorted(receiver.received, key=lambda got: got.headers["x-gledger-endpoint-sequence"])
    for got in (first, second):
        _verify(stage, endpoint, got)
    assert [got.headers["x-gledger-endpoint-sequence"] for got in (first, second)] == ["1,2,3", "4"]
    assert [len(msgspec.json.decode(got.body)) for got in (first, second)] == [3, 1]
    rows = await stage.rows(endpoint.id)
    failed = [row for row in rows if row.status == "retrying"]
    assert {row.status for row in rows} == {"delivered", "retrying"}
    assert {(await stage.attempts(row))[0].number for row in rows} == {1}
    stage.clock.advance(seconds=5)
    await stage.deliver()
    again = receiver.received[2]
    assert again.headers["x-gledger-attempt"] == ",".join("2" for _ in failed)
    same = first if len(failed) == 3 else second
    assert (again.headers["webhook-id"], again.body) == (same.headers["webhook-id"], same.body)
    assert {row.status for row in await stage.rows(endpoint.id)} == {"delivered"}


async def test_what_cannot_be_made_into_a_message_is_our_failure(
    stage: Stage, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mistake in making a body neither loses the delivery nor stops the others, nor costs the endpoint anything."""
    endpoint = await stage.endpoint(receiver.url("/hook"))
    other = await stage.endpoint(receiver.url("/other"))

    def broken(event_id: str, envelope: bytes, form: Form) -> Message:
        if form.payload == "thin":
            raise ValueError(event_id)
        return message(event_id, envelope, form)

    monkeypatch.setattr("delivery.attempts.message", broken)
    await stage.endpoints.change(SITE, endpoint.id, _change(payload="thin"))
    await _commit(stage, "eu")
    await stage.deliver()
    (row,) = await stage.rows(endpoint.id)
    assert (row.status, row.last_error) == ("retrying", "internal")
    assert [one.status for one in await stage.rows(other.id)] == ["delivered"]


async def test_a_client_certificate_is_sealed_used_and_its_key_never_shown(stage: Stage) -> None:
    """A receiver that demands it is delivered to; taken away, it is not; the key is in no answer and no row in clear."""
    servers, clients = Authority.make(), Authority.make()
    ours = clients.issue("gledger.example")
    given = {"certificate": ours.pem, "private_key": ours.key_pem, "ca": servers.pem}
    async with Receiver(tls=servers.issue("127.0.0.1").server(clients=clients.pem)) as receiver:
        endpoint = await stage.endpoint(receiver.url("/hook"), tls=given)
        assert endpoint.tls is not None
        assert (endpoint.tls.certificate, endpoint.tls.ca) == (ours.pem, servers.pem)
        assert endpoint.tls.expires_at is not None
        assert b"PRIVATE" not in msgspec.json.encode(endpoint)
        await _commit(stage, "eu")
        await stage.deliver()
        assert [row.status for row in await stage.rows(endpoint.id)] == ["delivered"]
        (attempt,) = await stage.attempts((await stage.rows(endpoint.id))[0])
        assert attempt.timings is not None
        assert attempt.timings.tls_ms is not None
        changed = await stage.endpoints.change(SITE, endpoint.id, _change(tls={"ca": servers.pem}))
        assert changed.tls is not None
        assert changed.tls.certificate is None
        await _commit(stage, "eu")
        await stage.deliver()
        assert [row.status for row in await stage.rows(endpoint.id)] == ["delivered", "retrying"]
        with pytest.raises(InvalidTls):
            await stage.endpoints.change(SITE, endpoint.id, _change(tls={"certificate": ours.pem}))
