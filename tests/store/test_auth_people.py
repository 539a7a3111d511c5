"""People and sessions on real SQLite and PostgreSQL: signing in, waits after failures, limits, ending, looking elsewhere."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from sqlalchemy import Connection

from auth import store
from auth.errors import (
    AdministratorExists,
    AdministratorNotFound,
    EmailInvalid,
    SessionNotFound,
    SignInRefused,
    SignInThrottled,
    SiteUnknown,
)
from auth.passwords import LENGTH_MIN
from auth.people import FREE_AS_PERSON, WAIT_MAX_S, NewPassword, People, wait_s
from auth.revocations import Revocations
from auth.sessions import ABSOLUTE_US, IDLE_US, Sessions, SignedIn
from engine.databases import Database
from tests.fakes.clock import FakeClock, SequentialIds

HOME = "198.51.100.7"
AWAY = "203.0.113.9"


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """The use cases over a control database in which two organizations have a person each."""

    people: People
    sessions: Sessions
    clock: FakeClock
    jane: NewPassword
    other: NewPassword

    async def sign_in(self, who: NewPassword, password: str | None = None, address: str = HOME) -> SignedIn:
        """Sign somebody in as the portal does."""
        now_us = self.clock.now_us()
        person = await self.people.check(who.email, password or who.password, address=address, now_us=now_us)
        return await self.sessions.open(person, address=address, user_agent="test", now_us=now_us)


@pytest.fixture
async def door(control_database: Database, clock: FakeClock, ids: SequentialIds) -> Door:
    """Two organizations, the first with both environments."""
    now_us = clock.now_us()

    def furnish(conn: Connection) -> None:
        for organization, environment in (("acme", "sandbox"), ("acme", "production"), ("other", "sandbox")):
            store.activate_site(conn, store.add_site(conn, organization, environment, now_us).id)

    await control_database.write(furnish)
    people = People(control_database, ids=ids)
    return Door(
        people=people,
        sessions=Sessions(control_database, ids=ids, revocations=Revocations()),
        clock=clock,
        jane=await people.create("acme", " Jane@Acme.example ", now_us=now_us),
        other=await people.create("other", "joe@other.example", now_us=now_us),
    )


async def test_a_password_opens_a_session_and_nothing_else_does(door: Door) -> None:
    """The address counts without its case, the password exactly; an unknown person is refused like a wrong password."""
    assert door.jane.email == "jane@acme.example"
    assert len(door.jane.password) >= LENGTH_MIN
    opened = await door.sign_in(door.jane)
    found = await door.sessions.find(opened.token, now_us=door.clock.now_us())
    assert found is not None
    assert (found.session.email, found.session.site.environment) == (door.jane.email, "sandbox")
    for email, password in (
        (door.jane.email, door.jane.password + " "),
        (door.jane.email, door.other.password),
        ("nobody@acme.example", door.jane.password),
        (door.jane.email, ""),
        (door.jane.email, "\udcff" * 2000),
    ):
        with pytest.raises(SignInRefused):
            await door.people.check(email, password, address=AWAY, now_us=door.clock.now_us())
        door.clock.advance(seconds=120)


async def test_failures_make_wait_and_lock_nobody_out(door: Door) -> None:
    """After five failures even the right password waits at that address, and at no other; the wait ends by itself."""
    for _ in range(FREE_AS_PERSON):
        with pytest.raises(SignInRefused):
            await door.sign_in(door.jane, "wrong, and long enough")
    with pytest.raises(SignInThrottled) as told:
        await door.sign_in(door.jane)
    assert 0 < told.value.wait_s <= 1
    await door.sign_in(door.jane, address=AWAY)
    await door.sign_in(door.other)
    door.clock.advance(seconds=2)
    await door.sign_in(door.jane)
    await door.sign_in(door.jane)


def test_waits_double_up_to_a_minute() -> None:
    """A wait has an end, however many attempts failed."""
    assert [wait_s(failures, 5) for failures in (0, 4, 5, 6, 7, 11, 1_000_000)] == [
        0,
        0,
        1,
        2,
        4,
        WAIT_MAX_S,
        WAIT_MAX_S,
    ]


async def test_a_session_ends_when_it_is_idle_and_at_the_latest_after_its_day(door: Door) -> None:
    """Doing something keeps it; half an hour of nothing ends it, and twelve hours do whatever is done."""
    opened = await door.sign_in(door.jane)
    began = door.clock.now_us()
    while door.clock.now_us() < began + ABSOLUTE_US - IDLE_US // 2:
        assert await door.sessions.find(opened.token, now_us=door.clock.now_us()) is not None
        door.clock.advance(seconds=IDLE_US // 2 // 1_000_000)
    door.clock.advance(seconds=IDLE_US // 1_000_000)
    assert await door.sessions.find(opened.token, now_us=door.clock.now_us()) is None
    idle = await door.sign_in(door.jane)
    door.clock.advance(seconds=IDLE_US // 1_000_000)
    assert await door.sessions.find(idle.token, now_us=door.clock.now_us()) is None


async def test_watching_does_not_keep_a_session(door: Door) -> None:
    """A live view that asks whether its session is good is nobody at the keyboard."""
    opened = await door.sign_in(door.jane)
    door.clock.advance(seconds=IDLE_US // 1_000_000 - 60)
    assert await door.sessions.find(opened.token, now_us=door.clock.now_us(), active=False) is not None
    door.clock.advance(seconds=60)
    assert await door.sessions.find(opened.token, now_us=door.clock.now_us()) is None


async def test_signing_in_again_ends_the_session_before(door: Door) -> None:
    """The token is drawn anew, and the old one is worth nothing."""
    first = await door.sign_in(door.jane)
    now_us = door.clock.now_us()
    person = await door.people.check(door.jane.email, door.jane.password, address=HOME, now_us=now_us)
    second = await door.sessions.open(person, address=HOME, user_agent="", now_us=now_us, instead_of=first.token)
    assert second.token != first.token
    assert await door.sessions.find(first.token, now_us=now_us) is None
    assert [each.id for each in await door.sessions.list(second.session, now_us=now_us)] == [second.session.id]


async def test_sessions_are_listed_and_ended_by_their_owner_only(door: Door) -> None:
    """Somebody else's session is not there to be ended."""
    here, there = await door.sign_in(door.jane), await door.sign_in(door.jane, address=AWAY)
    stranger = await door.sign_in(door.other)
    now_us = door.clock.now_us()
    assert {each.id for each in await door.sessions.list(here.session, now_us=now_us)} == {
        here.session.id,
        there.session.id,
    }
    with pytest.raises(SessionNotFound):
        await door.sessions.end(stranger.session, here.session.id, now_us=now_us)
    await door.sessions.end(here.session, there.session.id, now_us=now_us)
    assert await door.sessions.find(there.token, now_us=now_us) is None
    assert await door.sessions.find(here.token, now_us=now_us) is not None


async def test_a_session_turns_to_a_site_of_its_own_organization_only(door: Door) -> None:
    """A form made for the sandbox is not taken for production."""
    opened = await door.sign_in(door.jane)
    await door.sessions.turn(opened.session, "production")
    turned = await door.sessions.find(opened.token, now_us=door.clock.now_us())
    assert turned is not None
    assert turned.session.site.environment == "production"
    assert turned.accepts(turned.form_token())
    assert not turned.accepts(opened.form_token())
    stranger = await door.sign_in(door.other)
    with pytest.raises(SiteUnknown):
        await door.sessions.turn(stranger.session, "production")
    assert [each.organization for each in await door.sessions.sites(stranger.session)] == ["other"]


async def test_a_new_password_ends_the_old_one_and_every_session(door: Door) -> None:
    """Whoever lost a laptop is safe after one command."""
    opened = await door.sign_in(door.jane)
    changed = await door.people.reset("JANE@acme.example", now_us=door.clock.now_us())
    assert await door.sessions.find(opened.token, now_us=door.clock.now_us()) is None
    with pytest.raises(SignInRefused):
        await door.sign_in(door.jane)
    await door.sign_in(changed)


async def test_who_cannot_be_is_refused(door: Door) -> None:
    """A second person of an address, an address that is none, an organization or a person that is not there."""
    now_us = door.clock.now_us()
    with pytest.raises(AdministratorExists):
        await door.people.create("other", "jane@acme.example", now_us=now_us)
    with pytest.raises(SiteUnknown):
        await door.people.create("nowhere", "x@y.example", now_us=now_us)
    with pytest.raises(AdministratorNotFound):
        await door.people.reset("x@y.example", now_us=now_us)
    for text in ("", "jane", "jane@", "@acme.example", "a b@c.example", "a@b@c", "a@-.example", "a\x00@b.example"):
        with pytest.raises(EmailInvalid):
            await door.people.create("acme", text, now_us=now_us)
