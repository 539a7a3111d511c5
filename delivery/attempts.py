"""Attempts: deliveries that were claimed become requests, and whatever comes of those a result that can be settled."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence

import structlog

from delivery.claim import Claimed
from delivery.forms import Message, batch_message, message
from delivery.keyring import Keyring
from delivery.message import masked, merged, message_headers
from delivery.retry import Failure
from delivery.sender import Sender
from delivery.settle import Finished
from delivery.shapes import encode
from delivery.transcript import digest, shown_request, shown_response
from delivery.vault import Vault
from engine.databases import Site

log = structlog.get_logger("gledger.delivery")


def batches(claimed: Sequence[Claimed]) -> Iterator[list[Claimed]]:
    """Return what goes out together: one delivery, or as many of an endpoint as it takes in one request."""
    waiting: dict[str, list[Claimed]] = {}
    for one in claimed:
        most = one.endpoint.form.max_batch
        if most == 1:
            yield [one]
            continue
        together = waiting.setdefault(one.endpoint.id, [])
        together.append(one)
    for together in waiting.values():
        together.sort(key=lambda one: one.delivery.endpoint_sequence)
        most = together[0].endpoint.form.max_batch
        yield from (together[start : start + most] for start in range(0, len(together), most))


class Attempts:
    """Makes requests."""

    def __init__(self, sender: Sender, vault: Vault, *, late_s: float) -> None:
        """`late_s` is how long after it was claimed a request is still begun."""
        self._sender = sender
        self._keyring = Keyring(vault)
        self._late_s = late_s

    async def send(self, site: Site, together: Sequence[Claimed], at_us: int, began: float) -> list[Finished]:
        """Make one request with deliveries of one endpoint; nothing is raised.

        `at_us` is now, `began` when they were claimed by the loop's clock.
        """
        endpoint = together[0].endpoint
        loop = asyncio.get_running_loop()
        wait_us = min(one.wait_us for one in together)
        if wait_us:
            await asyncio.sleep(wait_us / 1_000_000)
            at_us += wait_us
        try:
            keys, custom = await self._keyring.open(site, endpoint, at_us)
            tls = await self._keyring.tls(site, endpoint)
        except Exception:
            log.exception("delivery.secret_unavailable", site_id=site.id, endpoint_id=endpoint.id)
            return interrupted(together, at_us, "secret_unavailable")
        try:
            sending = _message(together)
            headers = message_headers([one.delivery for one in together], keys, at_us // 1_000_000, sending)
        except Exception:
            # A mistake of ours in making it: who waits for this attempt must hear of it all the same.
            log.exception("delivery.no_message", site_id=site.id, endpoint_id=endpoint.id)
            return interrupted(together, at_us, "internal")
        if loop.time() - began > self._late_s:
            return interrupted(together, at_us)
        started = loop.time()
        sent = await self._sender.post(endpoint.url, sending.body, merged(headers, custom), endpoint.timeout_s, tls=tls)
        duration_ms = round((loop.time() - started) * 1000)
        shown = merged(headers, masked(custom))
        digested = digest(sending.body)
        response = None if sent.response is None else shown_response(sent.response)
        timings = None if sent.timings is None else encode(sent.timings)
        return [
            Finished(
                claimed=one,
                result=sent.result,
                at=at_us,
                duration_ms=duration_ms,
                request=shown_request(endpoint.url, shown, one.event.id, endpoint.form.payload, digested),
                response=response,
                timings=timings,
            )
            for one in together
        ]


def interrupted(together: Sequence[Claimed], at_us: int, error_class: str = "interrupted") -> list[Finished]:
    """Return attempts that were not made, for a reason of ours."""
    return [
        Finished(
            claimed=one,
            result=Failure(error_class=error_class),
            at=at_us,
            duration_ms=0,
            request=None,
            response=None,
        )
        for one in together
    ]


def _message(together: Sequence[Claimed]) -> Message:
    form = together[0].endpoint.form
    if form.max_batch == 1:
        return message(together[0].event.id, together[0].event.body, form)
    return batch_message([one.event.id for one in together], [one.event.body for one in together], form)
