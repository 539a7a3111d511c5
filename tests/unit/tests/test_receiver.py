"""The receiver fake does what tests rely on."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest

from tests.fakes.receiver import DROPPED, GONE, OK, SERVER_ERROR, Receiver, Reply, moved, too_many


async def test_answers_are_used_up_in_order_and_the_last_stays(receiver: Receiver) -> None:
    """A script is a sequence, and its end is for ever."""
    receiver.script("/hook", SERVER_ERROR, too_many("7"), moved("http://127.0.0.1/elsewhere"), GONE)
    async with aiohttp.ClientSession() as session:
        seen = []
        for _ in range(5):
            async with session.post(receiver.url("/hook"), data=b"{}", allow_redirects=False) as answer:
                seen.append((answer.status, answer.headers.get("Retry-After"), answer.headers.get("Location")))
    assert seen == [
        (500, None, None),
        (429, "7", None),
        (302, None, "http://127.0.0.1/elsewhere"),
        (410, None, None),
        (410, None, None),
    ]


async def test_raw_bytes_and_headers_are_kept(receiver: Receiver) -> None:
    """What was sent can be checked byte by byte."""
    async with aiohttp.ClientSession() as session:
        await session.post(receiver.url("/hook?a=1"), data=b'{"a":  1}', headers={"Webhook-Id": "x"})
    [request] = await receiver.wait_for_count(1, "/hook")
    assert (request.method, request.query, request.body, request.headers["webhook-id"]) == (
        "POST",
        "a=1",
        b'{"a":  1}',
        "x",
    )


async def test_a_dropped_connection_has_no_answer(receiver: Receiver) -> None:
    """A drop is seen by the sender as a lost connection, and is on record."""
    receiver.script("/hook", DROPPED, OK)
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ServerDisconnectedError):
            await session.post(receiver.url("/hook"))
    assert len(receiver.at("/hook")) == 1


async def test_a_held_answer_comes_when_the_test_says_so(receiver: Receiver) -> None:
    """A slow receiver is as slow as the test wants, without a sleep."""
    go = asyncio.Event()
    receiver.script("/slow", Reply(hold=go))
    async with aiohttp.ClientSession() as session:
        sending = asyncio.create_task(session.post(receiver.url("/slow")))
        await receiver.wait_for_count(1)
        assert not sending.done()
        go.set()
        assert (await sending).status == 200


async def test_stopped_and_started_it_keeps_port_and_memory(receiver: Receiver) -> None:
    """A receiver that was down is back at the same address."""
    async with aiohttp.ClientSession() as session:
        await session.post(receiver.url("/a"))
        await receiver.stop()
        with pytest.raises(aiohttp.ClientConnectionError):
            await session.post(receiver.url("/b"))
        await receiver.start()
        await session.post(receiver.url("/c"))
    assert [request.path for request in receiver.received] == ["/a", "/c"]


async def test_waiting_in_vain_says_what_did_arrive(receiver: Receiver) -> None:
    """A failed wait explains itself."""
    async with aiohttp.ClientSession() as session:
        await session.post(receiver.url("/a"))
    with pytest.raises(TimeoutError, match="POST /a"):
        await receiver.wait_for(lambda got: bool(got.at("/b")), timeout_s=0.01)


async def test_an_endless_body_ends_when_the_sender_leaves(receiver: Receiver) -> None:
    """A sender with a cap gets more than its cap."""
    receiver.script("/flood", Reply(endless=True))
    async with aiohttp.ClientSession() as session, session.post(receiver.url("/flood")) as answer:
        assert len(await answer.content.readexactly(1_000_000)) == 1_000_000
