"""Endpoints' use cases and the delivery log, on SQLite and on PostgreSQL."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator

import msgspec
import pytest
from sqlalchemy import Connection, text

from delivery.egress import EgressPolicy
from delivery.endpoints import Defaults, Endpoints
from delivery.errors import (
    DeliveryNotFound,
    EndpointDisabled,
    EndpointLimitReached,
    EndpointNotFound,
    InvalidUrl,
    ReservedHeaders,
    UnknownEventTypes,
)
from delivery.log import DeliveryFilter
from delivery.shapes import DeliveryStatus, Endpoint, EndpointChange, EndpointCreate
from engine.databases import Database, Site
from engine.errors import IdempotencyKeyReused, PreconditionFailed
from engine.idempotency import IdempotencyKey
from tests.fakes.receiver import GONE, SERVER_ERROR, Receiver
from tests.store.delivery_stage import SITE, Stage, make_stage

URL = "http://127.0.0.1:9/hook"
NOBODY = "0199c7d3-a400-7000-8000-00000000ffff"
OTHER_SITE = Site(id=8, organization="other-corp", environment="sandbox")
DRAFT = EndpointCreate(url=URL, event_types=["entry.*"], headers={"X-Key": "s3cret-value"})


@pytest.fixture
async def stage(site_database: Database) -> AsyncIterator[Stage]:
    """A site with an empty feed."""
    made = await make_stage(site_database)
    yield made
    await made.close()


def key(name: str = "k", fingerprint: bytes = b"f" * 32) -> IdempotencyKey:
    """Return an idempotency key."""
    return IdempotencyKey(key=name, fingerprint=fingerprint)


async def test_created_endpoint_shows_its_secret_once(stage: Stage) -> None:
    """The secret is in the answer to the creation and in no other; custom headers show names only."""
    written = await stage.endpoints.create(SITE, DRAFT)
    shown = msgspec.json.decode(written.body, type=Endpoint)
    assert (written.resource_id, written.lock_version, written.replayed) == (shown.id, 1, False)
    assert isinstance(shown.secret, str)
    assert len(base64.b64decode(shown.secret.removeprefix("whsec_"))) == 32
    found = await stage.endpoints.get(SITE, shown.id)
    assert found == msgspec.structs.replace(shown, secret=msgspec.UNSET)
    assert b"secret" not in msgspec.json.encode(found)
    assert (found.headers, found.status, found.last_sequence) == ({"X-Key": "***"}, "active", 0)
    assert (found.timeout_s, found.max_in_flight, found.retry_schedule[:3]) == (15, 16, [0, 5, 300])


async def test_no_secret_is_stored_in_clear(stage: Stage) -> None:
    """Neither the signing secret nor a custom header's value is in any row, idempotent answers included."""

    class Opaque:
        async def seal(self, plaintext: bytes, **_: str) -> bytes:
            return b"sealed"

        async def open(self, sealed: bytes, **_: str) -> bytes:
            raise AssertionError(sealed)

    endpoints = Endpoints(
        stage.databases, clock=stage.clock, ids=stage.ids, vault=Opaque(), egress=EgressPolicy(allow_private=True),
        record_fact=stage.record,
    )  # fmt: skip
    secrets = [
        msgspec.json.decode((await endpoints.create(SITE, DRAFT, key=key())).body)["secret"],
    ]
    (endpoint,) = (await endpoints.list(SITE, limit=10)).data
    secrets.append(msgspec.json.decode((await endpoints.rotate_secret(SITE, endpoint.id, key=key("r"))).body)["secret"])

    def dump(conn: Connection) -> str:
        tables = ("endpoints", "subscriptions", "idempotency_keys", "outgoing_facts")
        rows = [tuple(row) for table in tables for row in conn.execute(text(f"SELECT * FROM {table}"))]
        return repr([[bytes(one) if isinstance(one, memoryview) else one for one in row] for row in rows])

    stored = await stage.database.read(dump, site_id=SITE.id)
    assert endpoint.id in stored.replace("UUID(", "")
    for secret in secrets:
        raw = base64.b64decode(secret.removeprefix("whsec_"))
        for form in (secret.removeprefix("whsec_"), repr(raw)[2:-1], raw.hex()):
            assert form not in stored
    assert "s3cret-value" not in stored


async def test_repeated_creation_is_answered_again_without_the_secret(stage: Stage) -> None:
    """The same key makes one endpoint; the second answer has the same bytes but `null` for the secret."""
    first = await stage.endpoints.create(SITE, DRAFT, key=key())
    again = await stage.endpoints.create(SITE, DRAFT, key=key())
    assert (again.replayed, again.resource_id, again.lock_version) == (True, first.resource_id, 1)
    expected = {**msgspec.json.decode(first.body), "secret": None}
    assert msgspec.json.decode(again.body) == expected
    assert len((await stage.endpoints.list(SITE, limit=10)).data) == 1


async def test_key_of_another_request_is_refused(stage: Stage) -> None:
    """A key means one request; nothing is made for the second."""
    await stage.endpoints.create(SITE, DRAFT, key=key())
    with pytest.raises(IdempotencyKeyReused):
        await stage.endpoints.create(SITE, DRAFT, key=key(fingerprint=b"g" * 32))
    assert len((await stage.endpoints.list(SITE, limit=10)).data) == 1


async def test_repeated_rotation_makes_one_secret(stage: Stage) -> None:
    """A retried rotation answers `null` and does not push the first new secret out."""
    endpoint = await stage.endpoint(URL)
    first = msgspec.json.decode((await stage.endpoints.rotate_secret(SITE, endpoint.id, key=key())).body)
    again = await stage.endpoints.rotate_secret(SITE, endpoint.id, key=key())
    assert first["secret"] != endpoint.secret
    assert (again.replayed, msgspec.json.decode(again.body)["secret"]) == (True, None)
    assert (await stage.endpoints.get(SITE, endpoint.id)).lock_version == 2


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"url": "ftp://example.com/"}, InvalidUrl),
        ({"event_types": ["payment.*"]}, UnknownEventTypes),
        ({"headers": {"webhook-id": "x"}}, ReservedHeaders),
    ],
)
async def test_what_cannot_be_kept_is_refused_at_creation_and_change(
    stage: Stage, changed: dict[str, object], error: type[Exception]
) -> None:
    """Both ways in check the same, and a refusal changes nothing."""
    endpoint = await stage.endpoint(URL)
    with pytest.raises(error):
        await stage.endpoints.create(SITE, msgspec.structs.replace(DRAFT, **changed))
    with pytest.raises(error):
        await stage.endpoints.change(SITE, endpoint.id, msgspec.convert(changed, EndpointChange))
    (only,) = (await stage.endpoints.list(SITE, limit=10)).data
    assert only.lock_version == 1


async def test_change_keeps_what_is_left_out(stage: Stage) -> None:
    """Only what is given changes; `null` goes back to the default."""
    endpoint = await stage.endpoint(URL, description="d", timeout_s=3, metadata={"a": "b"}, retry_schedule=[0, 1])
    stage.clock.advance(seconds=1)
    change = EndpointChange(timeout_s=None, retry_schedule=None, headers={"X-New": "v"})
    changed = await stage.endpoints.change(SITE, endpoint.id, change, if_match=1)
    assert changed == await stage.endpoints.get(SITE, endpoint.id)
    assert (changed.description, changed.metadata, changed.url) == ("d", {"a": "b"}, URL)
    assert (changed.timeout_s, changed.retry_schedule[1], changed.headers) == (15, 5, {"X-New": "***"})
    assert (changed.lock_version, changed.created_at) == (2, endpoint.created_at)
    assert changed.updated_at > endpoint.updated_at


async def test_stale_version_is_refused(stage: Stage) -> None:
    """If-Match protects changes and removals from each other."""
    endpoint = await stage.endpoint(URL)
    await stage.endpoints.change(SITE, endpoint.id, EndpointChange(description="first"))
    with pytest.raises(PreconditionFailed) as refused:
        await stage.endpoints.change(SITE, endpoint.id, EndpointChange(description="second"), if_match=1)
    assert refused.value.lock_version == 2
    with pytest.raises(PreconditionFailed):
        await stage.endpoints.delete(SITE, endpoint.id, if_match=1)
    assert (await stage.endpoints.get(SITE, endpoint.id)).description == "first"


async def test_list_goes_newest_first_in_pages(stage: Stage) -> None:
    """Pages are cut by id and miss nothing."""
    made = [(await stage.endpoint(f"{URL}/{number}")).id for number in range(5)]
    await stage.endpoints.delete(SITE, made[3])
    first = await stage.endpoints.list(SITE, limit=2)
    second = await stage.endpoints.list(SITE, limit=2, before=first.data[-1].id)
    assert [one.id for one in [*first.data, *second.data]] == [made[4], made[2], made[1], made[0]]
    assert (first.has_more, second.has_more) == (True, False)


async def test_removed_endpoint_is_gone_for_every_use(stage: Stage) -> None:
    """It cannot be read, changed, tested or removed again; its deliveries can still be read and not be replayed."""
    endpoint = await stage.endpoint(URL)
    await stage.commit("entry.posted")
    await stage.relay_all()
    await stage.endpoints.delete(SITE, endpoint.id)
    uses = stage.endpoints
    for use in (uses.get, uses.delete, uses.pause, uses.resume, uses.enable, uses.rotate_secret, uses.test):
        for endpoint_id in (endpoint.id, NOBODY):
            with pytest.raises(EndpointNotFound):
                await use(SITE, endpoint_id)
    with pytest.raises(EndpointNotFound):
        await uses.change(SITE, endpoint.id, EndpointChange(description="x"))
    (delivery,) = await stage.rows(endpoint.id)
    with pytest.raises(EndpointNotFound):
        await stage.replay.replay_one(SITE, delivery.id)


async def test_disabled_endpoint_asks_to_be_enabled_first(stage: Stage, receiver: Receiver) -> None:
    """Pausing, resuming, testing and replaying say so; enabling is told to the feed once."""
    receiver.script("/", GONE)
    endpoint = await stage.endpoint(receiver.url())
    await stage.commit("entry.posted")
    await stage.deliver()
    (delivery,) = await stage.rows(endpoint.id)
    for use in (stage.endpoints.pause, stage.endpoints.resume, stage.endpoints.test):
        with pytest.raises(EndpointDisabled):
            await use(SITE, endpoint.id)
    with pytest.raises(EndpointDisabled):
        await stage.replay.replay_one(SITE, delivery.id)
    await stage.facts.run(SITE)
    for _ in range(2):
        assert (await stage.endpoints.enable(SITE, endpoint.id)).status == "enabling"
    assert await stage.facts.run(SITE) == 2


async def test_pause_and_resume_may_be_repeated(stage: Stage) -> None:
    """A second pause or resume changes nothing, not even the version."""
    endpoint = await stage.endpoint(URL)
    paused = [await stage.endpoints.pause(SITE, endpoint.id) for _ in range(2)]
    resumed = [await stage.endpoints.resume(SITE, endpoint.id) for _ in range(2)]
    assert [(one.status, one.lock_version) for one in [*paused, *resumed]] == [
        ("paused", 2), ("paused", 2), ("active", 3), ("active", 3),
    ]  # fmt: skip


async def test_test_event_reaches_its_endpoint_alone(stage: Stage, receiver: Receiver) -> None:
    """A test goes through the feed to one endpoint, whatever it subscribed to, and once for a key."""
    tested = await stage.endpoint(receiver.url("/tested"), "hold.*")
    await stage.endpoint(receiver.url("/other"))
    for _ in range(2):
        await stage.endpoints.test(SITE, tested.id, key=key())
    await stage.deliver()
    (got,) = receiver.received
    event = msgspec.json.decode(got.body)
    assert (got.path, event["type"], event["data"]["id"]) == ("/tested", "endpoint.test", tested.id)


async def test_site_has_a_limit_of_endpoints(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """The relay's work for an event is bounded."""
    monkeypatch.setattr("delivery.endpoints.ENDPOINTS_MAX", 2)
    for _ in range(2):
        await stage.endpoint(URL)
    with pytest.raises(EndpointLimitReached):
        await stage.endpoint(URL)


async def test_defaults_are_the_operators(stage: Stage) -> None:
    """What a registration leaves out comes from the settings; a later change of the schedule applies to all."""
    endpoints = stage.registry(defaults=Defaults(timeout_s=7, max_in_flight=3, retry_schedule_s=(0, 9)))
    made = msgspec.json.decode((await endpoints.create(SITE, DRAFT)).body, type=Endpoint)
    assert (made.timeout_s, made.max_in_flight, made.retry_schedule) == (7, 3, [0, 9])
    assert (await stage.endpoints.get(SITE, made.id)).retry_schedule[1] == 5


async def test_hint_is_given_when_something_is_due(stage: Stage) -> None:
    """Resuming and replaying say whom to wake, so that nobody waits for a sweep."""
    hints: list[str] = []
    endpoints = stage.registry(on_due=lambda _site, endpoint_id: hints.append(endpoint_id))
    endpoint = await stage.endpoint(URL)
    await endpoints.pause(SITE, endpoint.id)
    assert hints == []
    await endpoints.resume(SITE, endpoint.id)
    assert hints == [endpoint.id]


async def test_log_is_filtered_and_paged_newest_first(stage: Stage, receiver: Receiver) -> None:
    """Every filter narrows, pages join without gap or double, with an endpoint and without."""
    receiver.script("/bad", SERVER_ERROR)
    good = await stage.endpoint(receiver.url("/good"))
    bad = await stage.endpoint(receiver.url("/bad"), "entry.*", retry_schedule=[0])
    await stage.commit(*["entry.posted", "hold.created"] * 4)
    await stage.deliver()

    async def ids(limit: int, **given: str) -> list[str]:
        found: list[str] = []
        while True:
            before = found[-1] if found else None
            matching = msgspec.convert(given, type=dict[str, str])
            page = await stage.log.deliveries(SITE, DeliveryFilter(**matching), limit=limit, before=before)  # type: ignore[arg-type]
            found += [one.id for one in page.data]
            if not page.has_more:
                return found

    everything = await ids(3)
    assert everything == sorted(everything, reverse=True)
    assert len(everything) == len(set(everything)) == 12
    of_bad = await ids(3, endpoint_id=bad.id)
    assert set(of_bad) == set(await ids(5, status="exhausted"))
    assert of_bad == sorted(of_bad, reverse=True)
    assert len(of_bad) == 4
    assert len(await ids(100, endpoint_id=good.id, event_type="hold.created")) == 4
    assert await ids(100, endpoint_id=bad.id, event_type="hold.created") == []
    assert set(await ids(2, status="delivered")) | set(of_bad) == set(everything)


async def test_log_after_a_number_heals_a_gap(stage: Stage, receiver: Receiver) -> None:
    """A receiver that missed numbers reads exactly those, ascending, with the events' own bytes."""
    endpoint = await stage.endpoint(receiver.url("/hook"), max_in_flight=1)
    await stage.commit(*["entry.posted"] * 5)
    await stage.deliver()
    matching = DeliveryFilter(endpoint_id=endpoint.id)
    page = await stage.log.deliveries(SITE, matching, limit=2, after=2, include_event=True)
    assert [one.endpoint_sequence for one in page.data] == [3, 4]
    assert (page.has_more, page.head.sequence) == (True, 5)
    shown = [bytes(one.event) for one in page.data if isinstance(one.event, msgspec.Raw)]
    assert shown == [one.body for one in receiver.received[2:4]]
    with pytest.raises(ValueError, match="endpoint"):
        await stage.log.deliveries(SITE, DeliveryFilter(), limit=2, after=2)


@pytest.mark.parametrize("status", ["pending", "in_flight", "retrying", "delivered", "exhausted", "skipped"])
async def test_log_knows_every_status(stage: Stage, receiver: Receiver, status: DeliveryStatus) -> None:
    """Each status can be asked for; what was not delivered is a query, not a puzzle."""
    receiver.script("/retrying", SERVER_ERROR)
    receiver.script("/exhausted", SERVER_ERROR)
    await stage.endpoint(receiver.url("/delivered"))
    await stage.endpoint(receiver.url("/retrying"))
    await stage.endpoint(receiver.url("/exhausted"), retry_schedule=[0])
    paused = await stage.endpoint(receiver.url("/pending"))
    removed = await stage.endpoint(receiver.url("/skipped"))
    await stage.endpoints.pause(SITE, paused.id)
    await stage.commit("entry.posted")
    await stage.endpoints.delete(SITE, removed.id)
    await stage.deliver()
    found = (await stage.log.deliveries(SITE, DeliveryFilter(status=status), limit=10)).data
    assert [one.status for one in found] == ([] if status == "in_flight" else [status])


async def test_unknown_delivery_is_not_found(stage: Stage) -> None:
    """Reading, its attempts and its replay say so alike."""
    for use in (stage.log.delivery, stage.log.attempts, stage.replay.replay_one):
        with pytest.raises(DeliveryNotFound):
            await use(SITE, NOBODY)


async def test_another_site_sees_nothing(stage: Stage) -> None:
    """The same database, another site's number: no endpoint, no delivery."""
    endpoint = await stage.endpoint(URL)
    await stage.commit("entry.posted")
    await stage.relay_all()
    (delivery,) = await stage.rows(endpoint.id)
    with pytest.raises(EndpointNotFound):
        await stage.endpoints.get(OTHER_SITE, endpoint.id)
    with pytest.raises(DeliveryNotFound):
        await stage.log.delivery(OTHER_SITE, delivery.id)
    with pytest.raises(DeliveryNotFound):
        await stage.replay.replay_one(OTHER_SITE, delivery.id)
