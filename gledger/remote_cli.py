"""Commands that speak HTTP to a server: listen, trigger, deliveries, events; and webhooks, which need none."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import typer

from delivery.errors import InvalidSecret, SignatureRejected
from delivery.signing import parse_signing_key, parse_verifying_key, sign, verify
from gledger import listening
from gledger.errors import ProgramError
from gledger.feed_follower import begin_at
from gledger.remote import Remote, connected, find_access
from gledger.triggers import TRIGGERS
from gledger.triggers import trigger as make_happen

CREDENTIALS: Final = Path("data/credentials.json")
_DONE: Final = frozenset({"completed", "canceled"})
_SETTINGS: Final[dict[str, Any]] = {
    "no_args_is_help": True,
    "rich_markup_mode": None,
    "context_settings": {"help_option_names": ["-h", "--help"]},
}

Credentials = Annotated[
    Path | None,
    typer.Option(help="A credentials file; else GLEDGER_API_KEY and GLEDGER_BASE_URL, else data/credentials.json."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, one object a line.")]
Types = Annotated[str | None, typer.Option(help="Only these event types: entry.posted,account.*")]
Since = Annotated[str | None, typer.Option(help="Begin at `start`, at a time (RFC 3339), or after a cursor.")]
Endpoint = Annotated[str | None, typer.Option("--endpoint", help="Only deliveries to this endpoint.")]
Status = Annotated[str | None, typer.Option(help="Only in this state: pending, retrying, delivered, exhausted, …")]

deliveries: Final = typer.Typer(help="What is delivered to webhooks: list, look at one, send again.", **_SETTINGS)
events: Final = typer.Typer(help="The feed.", **_SETTINGS)
webhooks: Final = typer.Typer(help="Sign and verify webhooks, without a server.", **_SETTINGS)


def add_to(app: typer.Typer) -> None:
    """Add the commands to the program's."""
    app.command("listen", epilog=_LISTEN)(listen)
    app.command("trigger", epilog="Example: gledger trigger entry.posted")(trigger)
    app.add_typer(deliveries, name="deliveries")
    app.add_typer(events, name="events")
    app.add_typer(webhooks, name="webhooks")


_LISTEN: Final = (
    "Examples: gledger listen --forward-to http://127.0.0.1:3000/webhooks --types entry.* | "
    "gledger listen --forward-to http://127.0.0.1:3000/ --replay-missed --json"
)


def listen(
    forward_to: Annotated[str, typer.Option(help="Where to POST each event.")],
    types: Types = None,
    since: Since = None,
    replay_missed: Annotated[
        bool, typer.Option("--replay-missed", help="Begin where the last run stopped: what came since is forwarded.")
    ] = False,
    print_secret: Annotated[
        bool, typer.Option("--print-secret", help="Print the secret that signs, first of all; it stays the same.")
    ] = False,
    as_json: AsJson = False,
    credentials: Credentials = None,
) -> None:
    """Forward events to a program on this machine. Signed as webhooks are; nothing is lost to sleep or restarts."""
    if not forward_to.startswith(("http://", "https://")):
        raise typer.BadParameter("it has to begin with http:// or https://", param_hint="--forward-to")
    wanted = listening.Wanted(
        forward_to=forward_to,
        types=types,
        since=since,
        replay_missed=replay_missed,
        print_secret=print_secret,
        as_json=as_json,
    )

    async def go(remote: Remote) -> None:
        await listening.listen(remote, wanted, listening.kept_at(remote.access, wanted, os.environ))

    _run(credentials, go)


def trigger(
    event_type: Annotated[str, typer.Argument(help=f"One of {', '.join(TRIGGERS)}.")],
    as_json: AsJson = False,
    credentials: Credentials = None,
) -> None:
    """Make something happen in a sandbox. Real requests, so that the event follows on every channel."""

    async def go(remote: Remote) -> None:
        made = await make_happen(remote, event_type)
        print(_json(made) if as_json else f"{event_type}: {made['id']}")

    _run(credentials, go)


@events.command("tail", epilog="Example: gledger events tail --types entry.* --since start")
def tail(types: Types = None, since: Since = None, as_json: AsJson = False, credentials: Credentials = None) -> None:
    """Print events as they are committed."""
    place = begin_at(since, None, types)
    _run(credentials, lambda remote: listening.tail(remote, place, as_json=as_json))


@deliveries.command("ls", epilog="Example: gledger deliveries ls --status exhausted")
def list_deliveries(
    endpoint: Endpoint = None,
    status: Status = None,
    event_type: Annotated[str | None, typer.Option("--type", help="Only of this event type.")] = None,
    error: Annotated[
        str | None, typer.Option(help="Only where the last attempt failed so: timeout, http_5xx, …")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many at most.")] = 50,
    as_json: AsJson = False,
    credentials: Credentials = None,
) -> None:
    """List deliveries, the newest first."""
    params = {
        "endpoint_id": endpoint, "status": status, "event_type": event_type, "last_error": error, "limit": limit,
    }  # fmt: skip

    async def go(remote: Remote) -> None:
        found = (await remote.ask("GET", "/v1/deliveries", params=params))["data"]
        if as_json:
            for each in found:
                print(_json(each))
            return
        _table(
            ("DELIVERY", "NUMBER", "EVENT", "STATUS", "ATTEMPTS", "LAST", "CREATED"),
            [
                (each["id"], each["endpoint_sequence"], each["event_type"], each["status"], each["attempts"],
                 each["last_error"] or each["last_status"] or "-", each["created_at"])
                for each in found
            ],
        )  # fmt: skip

    _run(credentials, go)


@deliveries.command("show", epilog="Example: gledger deliveries show 01a1fd0b-eef6-7000-835e-95ab9f5c099d")
def show_delivery(
    delivery_id: Annotated[str, typer.Argument(help="The delivery's id.")],
    as_json: AsJson = False,
    credentials: Credentials = None,
) -> None:
    """Show a delivery and each of its attempts."""

    async def go(remote: Remote) -> None:
        found = await remote.ask("GET", f"/v1/deliveries/{delivery_id}")
        attempts = (await remote.ask("GET", f"/v1/deliveries/{delivery_id}/attempts"))["data"]
        if as_json:
            print(_json({**found, "attempts": attempts}))
            return
        for name, value in found.items():
            print(f"{name:18} {'-' if value is None else value}")
        _table(
            ("ATTEMPT", "TRIGGER", "AT", "ANSWER", "ERROR", "MS"),
            [
                (each["number"], each["trigger"], each["at"], (each["response"] or {}).get("status", "-"),
                 each["error_class"] or "-", "-" if each["duration_ms"] is None else each["duration_ms"])
                for each in attempts
            ],
        )  # fmt: skip

    _run(credentials, go)


@deliveries.command(
    "replay",
    epilog="Examples: gledger deliveries replay ID ID | gledger deliveries replay --status exhausted "
    "--since 2026-11-21T00:00:00Z --preview",
)
def replay_deliveries(
    ids: Annotated[list[str] | None, typer.Argument(metavar="ID...", help="These deliveries.")] = None,
    endpoint: Endpoint = None,
    status: Status = None,
    since: Annotated[str | None, typer.Option(help="Only deliveries made at this time or later (RFC 3339).")] = None,
    rate: Annotated[int | None, typer.Option(min=1, help="So many a second at most.")] = None,
    preview: Annotated[bool, typer.Option("--preview", help="Count them, and send nothing.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Return when each has its outcome; 1 if one failed.")] = False,
    as_json: AsJson = False,
    credentials: Credentials = None,
) -> None:
    """Send deliveries again: those that are named, or all that match."""
    filters = {"endpoint_id": endpoint, "status": None if status is None else [status], "since": since}
    chosen = {name: value for name, value in filters.items() if value is not None}
    if bool(ids) == bool(chosen):
        raise typer.BadParameter("name deliveries, or a filter: --endpoint, --status, --since")
    body: dict[str, Any] = {"delivery_ids": ids} if ids else {"filter": chosen}

    async def go(remote: Remote) -> None:
        if preview:
            counted = await remote.ask("POST", "/v1/replays/preview", body)
            print(_json(counted) if as_json else f"{counted['total']} deliveries would be sent again")
            return
        begun = await remote.ask("POST", "/v1/replays", {**body, "rate_per_s": rate})
        while wait and begun["status"] not in _DONE:
            await asyncio.sleep(0.5)
            begun = await remote.ask("GET", f"/v1/replays/{begun['id']}")
        counts = ", ".join(f"{name} {begun[name]}" for name in ("total", "queued", "delivered", "failed", "skipped"))
        print(_json(begun) if as_json else f"replay {begun['id']} {begun['status']}: {counts}")
        if wait and begun["failed"]:
            raise typer.Exit(1)

    _run(credentials, go)


Key = Annotated[
    str | None,
    typer.Option(
        help="whsec_…, whsk_… or whpk_…; else GLEDGER_WEBHOOK_KEY of the environment, which nobody else sees."
    ),
]
Body = Annotated[Path | None, typer.Argument(help="The body as it was sent; standard input unless given.")]
MessageId = Annotated[str, typer.Option("--id", help="The header webhook-id.")]


@webhooks.command("sign", epilog="Example: gledger webhooks sign --key whsec_… --id msg_1 body.json")
def sign_body(
    message_id: MessageId,
    body: Body = None,
    key: Key = None,
    timestamp: Annotated[int | None, typer.Option(help="The header webhook-timestamp; now unless given.")] = None,
) -> None:
    """Print the headers that a webhook with this body would have."""
    at_s = int(time.time()) if timestamp is None else timestamp
    signing = _key(parse_signing_key, key)
    print(f"webhook-id: {message_id}")
    print(f"webhook-timestamp: {at_s}")
    print(f"webhook-signature: {sign(signing, message_id, at_s, _body(body))}")


@webhooks.command(
    "verify",
    epilog="Example: gledger webhooks verify --key whsec_… --id msg_1 --timestamp 1763719180 --signature v1,… body.json",
)
def verify_body(
    message_id: MessageId,
    timestamp: Annotated[str, typer.Option(help="The header webhook-timestamp.")],
    signature: Annotated[str, typer.Option(help="The header webhook-signature, all of it.")],
    body: Body = None,
    key: Key = None,
    any_age: Annotated[bool, typer.Option("--any-age", help="Accept a timestamp more than five minutes old.")] = False,
) -> None:
    """Tell whether a webhook is genuine: exit code 0 where it is, 1 where it is not."""
    given = {"webhook-id": message_id, "webhook-timestamp": timestamp, "webhook-signature": signature}
    now_s = float(timestamp) if any_age and timestamp.isascii() and timestamp.isdecimal() else time.time()
    try:
        verify([_key(parse_verifying_key, key)], given, _body(body), now_s)
    except SignatureRejected as error:
        print(f"NOT genuine: {_VERDICTS[error.reason]}", file=sys.stderr)
        raise typer.Exit(1) from None
    print("genuine: the key signed exactly this id, timestamp and body")


_VERDICTS: Final = {
    "header_missing": "webhook-id, webhook-timestamp and webhook-signature are all needed",
    "timestamp_invalid": "the timestamp is not a number of seconds",
    "timestamp_outside": "the timestamp is more than five minutes from now (--any-age looks past that)",
    "no_match": "no signature is of this key over this id, timestamp and body: another key, or bytes that were changed",
}


def _key(parse: Callable[[str], Any], given: str | None) -> Any:
    text = given or os.environ.get("GLEDGER_WEBHOOK_KEY")
    if not text:
        raise typer.BadParameter("no key: name one with --key, or set GLEDGER_WEBHOOK_KEY")
    try:
        return parse(text)
    except InvalidSecret as error:
        raise ProgramError(f"the key cannot be used: {error}") from None


def _body(path: Path | None) -> bytes:
    return sys.stdin.buffer.read() if path is None else path.read_bytes()


def _run(credentials: Path | None, command: Callable[[Remote], Awaitable[None]]) -> None:
    access = find_access(credentials, os.environ, CREDENTIALS)

    async def go() -> None:
        async with connected(access) as remote:
            await command(remote)

    try:
        asyncio.run(go())
    except BrokenPipeError:
        # Whoever read has enough. What is still in the buffer has nowhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _table(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    texts = [names, *([str(value) for value in row] for row in rows)]
    widths = [max(len(row[place]) for row in texts) for place in range(len(names))]
    for row in texts:
        print("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())
