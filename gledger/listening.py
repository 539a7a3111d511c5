"""`gledger listen`: events of the feed forwarded to a program on this machine, signed as a webhook is.

It rides the feed with a cursor that it keeps in a file once an event was forwarded, so it loses nothing to a lost
connection, a server that restarts, a laptop that sleeps, or its own end.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp
import msgspec

from delivery.errors import InvalidSecret
from delivery.signing import SECRET_BYTES, format_secret, parse_secret, signature_header
from gledger.errors import ProgramError
from gledger.feed_follower import Block, Place, begin_at, follow
from gledger.remote import Access, Remote
from gledger.sites import write_private

_FORWARD_TIMEOUT: Final = aiohttp.ClientTimeout(total=30, sock_connect=5)
_WAIT_S: Final = 0.5
_WAIT_MAX_S: Final = 5.0


class Kept(msgspec.Struct, kw_only=True):
    """What one target's file keeps: the secret that signs, and how far the feed was forwarded."""

    secret: str
    cursor: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What to forward, where, and how to tell of it."""

    forward_to: str
    types: str | None
    since: str | None
    replay_missed: bool
    print_secret: bool
    as_json: bool


def kept_at(access: Access, wanted: Wanted, environ: Mapping[str, str]) -> Path:
    """Return the file of this target: the same server, key and address have the same one."""
    base = environ.get("XDG_STATE_HOME") or str(Path(environ.get("HOME") or ".") / ".local" / "state")
    told = "\n".join((access.base_url, hashlib.sha256(access.api_key.encode()).hexdigest(), wanted.forward_to))
    return Path(base) / "gledger" / f"listen-{hashlib.sha256(told.encode()).hexdigest()[:16]}.json"


def open_kept(path: Path) -> Kept:
    """Return what the file keeps, with a new secret where there is none; raises ProgramError."""
    try:
        kept = msgspec.json.decode(path.read_bytes(), type=Kept)
        parse_secret(kept.secret)
    except FileNotFoundError:
        kept = Kept(secret=format_secret(secrets.token_bytes(SECRET_BYTES)))
    except (msgspec.MsgspecError, InvalidSecret, OSError) as error:
        raise ProgramError(f"{path} cannot be used ({error}): remove it to begin anew") from None
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    _store(path, kept)
    return kept


async def listen(remote: Remote, wanted: Wanted, path: Path) -> None:
    """Forward events for ever; raises Refused, ProgramError."""
    kept = open_kept(path)
    if wanted.print_secret:
        print(kept.secret, flush=True)
    missed = kept.cursor if wanted.replay_missed else None
    place = begin_at(wanted.since, missed, wanted.types)
    _say(f"forwarding {wanted.types or 'every event'} to {wanted.forward_to}; ends with Ctrl-C")
    async with aiohttp.ClientSession(timeout=_FORWARD_TIMEOUT) as session:
        async for block in follow(remote, place, _say):
            if "." in block.event:
                await _forward(session, block, wanted, kept.secret)
            # After the work, never before it: whoever stops between the two forwards an event again, and misses none.
            place.cursor = kept.cursor = block.cursor
            _store(path, kept)


async def tail(remote: Remote, place: Place, *, as_json: bool) -> None:
    """Print events for ever; raises Refused, ProgramError."""
    async for block in follow(remote, place, _say):
        if "." in block.event:
            print(block.data.decode() if as_json else _line(block), flush=True)
        place.cursor = block.cursor


async def _forward(session: aiohttp.ClientSession, block: Block, wanted: Wanted, secret: str) -> None:
    """Send one event; a program that is not there is waited for, whatever it answers is told."""
    event = _event(block)
    began, wait_s = time.monotonic(), _WAIT_S
    for attempt in range(1, 1_000_000):
        sent_s = int(time.time())
        headers = {
            "content-type": "application/json",
            "user-agent": "GLedger-Live-listen",
            "webhook-id": str(event["id"]),
            "webhook-timestamp": str(sent_s),
            "webhook-signature": signature_header([parse_secret(secret)], str(event["id"]), sent_s, block.data),
            "X-GLedger-Attempt": str(attempt),
            "X-GLedger-Sequence": str(event["sequence"]),
        }
        try:
            async with session.post(
                wanted.forward_to, data=block.data, headers=headers, allow_redirects=False
            ) as answer:
                await answer.read()
                took_ms = round((time.monotonic() - began) * 1000)
                _tell(block, event, answer.status, took_ms, as_json=wanted.as_json)
                return
        except aiohttp.InvalidURL as error:
            raise ProgramError(f"--forward-to: {error} is no URL") from None
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            if attempt == 1:
                _say(f"{wanted.forward_to} does not answer ({str(error) or type(error).__name__}); waiting for it")
            await asyncio.sleep(wait_s)
            wait_s = min(wait_s * 2, _WAIT_MAX_S)


def _tell(block: Block, event: Mapping[str, Any], status: int, took_ms: int, *, as_json: bool) -> None:
    if as_json:
        told = {"id": event["id"], "type": block.event, "sequence": event["sequence"], "status": status, "ms": took_ms}
        print(msgspec.json.encode(told).decode(), flush=True)
    else:
        print(f"{_line(block)}  → {status} ({took_ms} ms)", flush=True)


def _line(block: Block) -> str:
    event = _event(block)
    resource = event["resource"]
    return f"{event['timestamp']}  #{event['sequence']}  {block.event}  {resource['type']} {resource['id']}"


def _event(block: Block) -> dict[str, Any]:
    return msgspec.json.decode(block.data, type=dict[str, Any])


def _store(path: Path, kept: Kept) -> None:
    write_private(path, msgspec.json.encode(kept))


def _say(text: str) -> None:
    print(f"gledger: {text}", file=sys.stderr, flush=True)
