"""`gledger dev` as a new user meets it: an empty folder, one command, then requests, a stop, and a second start."""

from __future__ import annotations

import asyncio
import re
import signal
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import aiohttp
import msgspec

from gledger.sites import CredentialsFile, read_credentials
from tests.processes import Finished, Program, run, until, until_ready, without_settings

TOLD: Final = (
    "GLedger Live at http://127.0.0.1:",
    "1. An access token for 600 s, scopes: ",
    "2. The partner's endpoint ",
    "3. A dashboard follows the feed over SSE from ",
    "4. The SendCash Ledger with Cash Account, Jane Doe Wallet, John Doe Wallet, all in USD",
    "5. Jane deposits $100.00: entry ",
    "   webhook entry.posted, signature verified, delivery ",
    "   stream  entry.posted at sequence ",
    "6. Jane sends to John $25.00: entry ",
    "7. John withdraws $10.00: entry ",
    "8. The same key again posts nothing: entry ",
    "9. The partner is away: delivery ",
    "   The partner is back: attempt ",
    "10. The stream was cut at ",
    "11. The partner has endpoint sequences 1 to ",
)
START_TIMEOUT_S: Final = 30.0
STORY_TIMEOUT_S: Final = 60.0
POSTED: Final = 201


@contextmanager
def dev(folder: Path, *arguments: str) -> Iterator[Program]:
    """Run `gledger dev` on a free port for the block."""
    log = folder / "dev.log"
    log.unlink(missing_ok=True)
    program = Program("dev", "--port", "0", "--data", str(folder / "data"), *arguments, environ={}, log=log)
    program.start()
    try:
        yield program
    finally:
        program.close()


async def printed(program: Program, pattern: str, timeout_s: float = START_TIMEOUT_S) -> re.Match[str]:
    """Return the first match of what the program prints as soon as it has; raises `TimeoutError`."""
    try:
        async with asyncio.timeout(timeout_s):
            while True:
                found = re.search(pattern, program.tail(100_000), re.MULTILINE)
                if found is not None:
                    return found
                assert program.running, program.tail()
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise TimeoutError(f"it did not print {pattern}:\n{program.tail()}") from None


async def credentials_of(program: Program, folder: Path) -> CredentialsFile:
    """Return the credentials of a `gledger dev` that is ready."""
    await printed(program, r"^GLedger Live serves http\S+ \(credentials: \S+\)$")
    found = read_credentials(folder / "data" / "credentials.json")
    assert found is not None
    return found


async def post_entry(http: aiohttp.ClientSession, credentials: CredentialsFile) -> str:
    """Post an entry in a new ledger and return its id."""
    headers = {"x-api-key": credentials.api_key}

    async def post(path: str, body: dict[str, Any]) -> str:
        async with http.post(credentials.base_url + path, json=body, headers=headers) as answer:
            assert answer.status == POSTED, await answer.text()
            return str((await answer.json())["id"])

    ledger = await post("/v1/ledgers", {"name": "Mine"})
    pair = [
        await post("/v1/accounts", {"ledger_id": ledger, "name": kind, "type": kind, "currency": "USD"})
        for kind in ("asset", "liability")
    ]
    sides = zip(pair, ("debit", "credit"), strict=True)
    return await post(
        "/v1/entries", {"lines": [{"account_id": each, "direction": side, "amount": 5} for each, side in sides]}
    )


async def verify(folder: Path, *options: str) -> Finished:
    """Run `gledger verify` over a data folder."""
    return await run("verify", *options, environ={"GLEDGER_DATA": str(folder / "data")})


async def test_dev_serves_from_an_empty_folder_and_finds_everything_again(tmp_path: Path) -> None:
    """The first start makes credentials that work; the second keeps them and the data; each stop is clean and quick."""
    async with aiohttp.ClientSession() as http:
        with dev(tmp_path) as program:
            first = await credentials_of(program, tmp_path)
            assert stat.S_IMODE((tmp_path / "data" / "credentials.json").stat().st_mode) == 0o600
            assert (first.organization, first.environment) == ("acme-corp", "sandbox")
            await until_ready(http, first.base_url, program)
            entry_id = await post_entry(http, first)
            assert await program.stop() == 0, program.tail()
            _check_no_server_is_left(tmp_path)
        assert await verify(tmp_path) == Finished(code=0, out="acme-corp/sandbox: the books are right\n", err="")
        with dev(tmp_path) as program:
            second = await credentials_of(program, tmp_path)
            kept = {"base_url": "", "portal_url": ""}
            assert msgspec.structs.replace(second, **kept) == msgspec.structs.replace(first, **kept)
            assert second.portal_url == f"{second.base_url}/portal"
            assert (second.admin_email, bool(second.admin_password)) == ("admin@acme-corp.example", True)
            headers = {"x-api-key": second.api_key}
            async with http.get(f"{second.base_url}/v1/entries/{entry_id}", headers=headers) as answer:
                assert answer.status == 200, await answer.text()
            assert await program.stop() == 0, program.tail()
    assert "Traceback" not in program.tail(100_000)


async def test_a_second_process_on_the_same_folder_is_refused(tmp_path: Path) -> None:
    """Two writers on one SQLite file would corrupt it: the second is told who is there, and the first goes on."""
    with dev(tmp_path) as program:
        credentials = await credentials_of(program, tmp_path)
        other = await run("dev", "--port", "0", "--data", str(tmp_path / "data"), environ={})
        assert (other.code, other.out) == (1, "")
        assert other.err == (
            f"gledger: {tmp_path}/data is in use by process {program.pid}: stop it, or give this one a folder of its own "
            "with --data\n"
        )
        async with aiohttp.ClientSession() as http:
            await post_entry(http, credentials)
        for options in ((), ("--processes", "2")):
            assert (await verify(tmp_path, *options)).code == 0, "reading beside the writer is allowed"
        assert await program.stop() == 0


async def test_an_interrupt_at_the_terminal_ends_it_cleanly(tmp_path: Path) -> None:
    """Ctrl-C is a way to stop, not a failure."""
    with dev(tmp_path) as program:
        await credentials_of(program, tmp_path)
        program.send(signal.SIGINT)
        assert await program.ended() == 0, program.tail()
        _check_no_server_is_left(tmp_path)


async def test_being_told_to_stop_while_starting_leaves_nothing_behind(tmp_path: Path) -> None:
    """SIGTERM before it serves ends it just as well, its embedded server with it."""
    with dev(tmp_path) as program:

        async def embedded_server() -> bool | None:
            return (tmp_path / "data" / "valkey" / "valkey.sock").exists() or None

        await until(embedded_server, timeout_s=START_TIMEOUT_S)
        assert await program.stop() in {0, 143}
        _check_no_server_is_left(tmp_path)


async def test_the_story_is_told_and_the_printed_commands_work(tmp_path: Path) -> None:
    """`gledger dev --demo` tells the whole story from real requests; the three curl lines do what they say, as printed."""
    with dev(tmp_path, "--demo") as program:
        await printed(program, r"^curl -sN .*$", STORY_TIMEOUT_S)
        lines = program.tail(100_000).splitlines()
        at = [next((number for number, line in enumerate(lines) if line.startswith(told)), -1) for told in TOLD]
        assert -1 not in at, f"not told: {TOLD[at.index(-1)]}"
        assert at == sorted(at), "told out of order"
        assert any(re.match(r"10\. .*: sequences \d+ to \d+, none missing$", line) for line in lines)
        assert not [line for line in lines if "broke off" in line or "Traceback" in line or '"level"' in line]
        await _run_what_was_printed(
            next(number for number, line in enumerate(lines) if line.startswith("TOKEN=")), lines
        )
        told = await run("demo", "--credentials", str(tmp_path / "data" / "credentials.json"), environ={})
        assert told.code == 0, told.err
        assert [line for line in told.out.splitlines() if line.startswith("11. ")]
        assert await program.stop() == 0, program.tail()
    assert (await verify(tmp_path)).code == 0


async def _run_what_was_printed(first: int, lines: list[str]) -> None:
    """Paste the three lines into a shell: a token, an entry, and a stream that shows that entry."""
    token, post, stream = (line for line in lines[first:] if line.startswith(("TOKEN=", "curl ")))
    script = f"{token}\n{post}\necho\ntimeout 5 {stream}\n"
    process = await asyncio.create_subprocess_exec(
        "bash", "-c", script, env=without_settings(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    out, err = await process.communicate()
    assert err == b""
    answer, _, streamed = out.partition(b"\n")
    entry = msgspec.json.decode(answer)
    assert entry["status"] == "posted", entry
    assert streamed.startswith(b"retry: "), streamed[:200]
    about = [line for line in streamed.split(b"\n") if line.startswith(b"data: ") and entry["id"].encode() in line]
    assert len(about) == 1
    sequences = [int(each) for each in re.findall(rb'"sequence":(\d+)', streamed)]
    assert sequences == list(range(1, len(sequences) + 1))


def _check_no_server_is_left(folder: Path) -> None:
    pid = (folder / "data" / "valkey" / "valkey.pid").read_text("ascii").strip()
    command = Path(f"/proc/{pid}/cmdline")
    # A dead child of a dead parent may stay a while as an entry without a command line.
    assert not command.exists() or b"valkey" not in command.read_bytes()
