"""The command line: every command is a few lines that read settings, call one function and choose an exit code.

Exit codes: 0 done, 1 failed, 2 wrong use or settings.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

import msgspec
import typer
import uvloop
from sqlalchemy.exc import DBAPIError

from auth.errors import AuthError
from engine.databases import is_outage
from engine.errors import EngineError
from gledger import auditors, demo, dev, doctor, inspection, logging, remote_cli, serve
from gledger.errors import ProgramError, SettingsError
from gledger.migrations import upgrade
from gledger.parts import open_parts
from gledger.settings import Settings
from gledger.sites import bootstrap, credentials_file, portal_url
from gledger.worker_process import run_worker

app = typer.Typer(
    name="gledger",
    help="GLedger Live: a double-entry ledger whose every committed change reaches everyone who subscribed.\n\n"
    "Begin with `gledger dev --demo`. Settings are GLEDGER_ variables of the environment; `gledger doctor` shows them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
admin = typer.Typer(help="People who sign in to the portal.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(admin, name="admin")

Organization = Annotated[str, typer.Option("--organization", help="The organization's slug, as in acme-corp.")]
Email = Annotated[str, typer.Option("--email", help="The e-mail address that the person signs in with.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Environment = Annotated[Literal["sandbox", "production"], typer.Option("--environment", help="Which environment.")]


@app.command("dev", epilog="Example: gledger dev --port 9000 --data /tmp/ledger --demo")
def dev_command(
    host: Annotated[str | None, typer.Option(help="Address to listen on; GLEDGER_HOST, else 127.0.0.1.")] = None,
    port: Annotated[int | None, typer.Option(help="Port; GLEDGER_PORT, else 8080; 0 takes a free one.")] = None,
    data: Annotated[Path | None, typer.Option(help="Folder that keeps everything; GLEDGER_DATA, else data.")] = None,
    tell: Annotated[bool, typer.Option("--demo", help="Tell the whole story with real requests first.")] = False,
) -> None:
    """Serve on this machine alone. Gateway, worker and an embedded Valkey in one process, on SQLite files."""
    options = {
        "GLEDGER_HOST": host,
        "GLEDGER_PORT": None if port is None else str(port),
        "GLEDGER_DATA": None if data is None else str(data),
    }
    environ = dev.environment_of(options)
    # The story is told on a fast clock: seconds between attempts, not hours.
    environ.setdefault("GLEDGER_WEBHOOK_RETRY_SCHEDULE", demo.RETRY_SCHEDULE if tell else "")
    environ.setdefault("GLEDGER_LOG_LEVEL", "error" if tell else "info")
    settings = _settings(environ)
    raise typer.Exit(dev.run(settings, demo.tell if tell else None))


@app.command(epilog="Example: gledger gateway --workers 2")
def gateway(
    workers: Annotated[int, typer.Option(min=1, max=64, help="How many processes share the port.")] = 1,
    fd: Annotated[int | None, typer.Option(hidden=True)] = None,
    parent_fd: Annotated[int | None, typer.Option(hidden=True)] = None,
) -> None:
    """Serve the API from PostgreSQL and Redis."""
    settings = _settings(dict(os.environ))
    settings.require_production()
    if fd is not None:
        listening = socket.socket(fileno=fd)
    else:
        try:
            listening = serve.listen(settings)
        except OSError as error:
            raise ProgramError(f"cannot listen on {settings.host}:{settings.port}: {error.strerror}") from None
        if workers > 1:
            raise typer.Exit(serve.supervise(listening, workers))
    uvloop.run(serve.serve_gateway(settings, listening, parent_fd))


@app.command(epilog="Example: gledger worker")
def worker() -> None:
    """Deliver: relay feeds to endpoints, send, retry, sweep."""
    settings = _settings(dict(os.environ))
    settings.require_production()
    uvloop.run(run_worker(settings))


@app.command(epilog="Example: gledger migrate")
def migrate() -> None:
    """Bring the databases to the newest schema. Runs as the role that owns the tables; doing it again changes nothing."""
    settings = _settings(dict(os.environ))
    upgrade(settings.migration_control_database_url, "control")
    if "{" not in settings.migration_database_url:
        upgrade(settings.migration_database_url, "site")
    print("The schema is up to date.")


@app.command("bootstrap", epilog="Example: gledger bootstrap --organization acme-corp --environment sandbox --json")
def bootstrap_command(
    organization: Organization,
    environment: Environment = "sandbox",
    as_json: AsJson = False,
    rotate: Annotated[bool, typer.Option(help="Replace the credentials of a site that has some.")] = False,
) -> None:
    """Make a site and print its first credentials, once."""
    settings = _settings(dict(os.environ))

    async def run() -> dict[str, Any]:
        async with open_parts(settings) as parts:
            issued = await bootstrap(parts, organization, environment, rotate=rotate)
            made = await credentials_file(parts, organization, environment, issued)
            found: dict[str, Any] = msgspec.to_builtins(made)
            return found

    _show(uvloop.run(run()), as_json)


@admin.command("create", epilog="Example: gledger admin create --organization acme-corp --email jane@acme.example")
def admin_create(
    organization: Organization,
    email: Email,
    as_json: AsJson = False,
) -> None:
    """Add an administrator to an organization and print the password, once."""
    settings = _settings(dict(os.environ))

    async def run() -> dict[str, Any]:
        async with open_parts(settings) as parts:
            made = await parts.authority.people.create(organization, email, now_us=parts.clock.now_us())
            return {"portal_url": portal_url(parts), "admin_email": made.email, "admin_password": made.password}

    _show(uvloop.run(run()), as_json)


@admin.command("reset", epilog="Example: gledger admin reset --email jane@acme.example")
def admin_reset(
    email: Email,
    as_json: AsJson = False,
) -> None:
    """Give an administrator a new password, print it once, and end all their sessions."""
    settings = _settings(dict(os.environ))

    async def run() -> dict[str, Any]:
        async with open_parts(settings) as parts:
            made = await parts.authority.people.reset(email, now_us=parts.clock.now_us())
            return {"portal_url": portal_url(parts), "admin_email": made.email, "admin_password": made.password}

    _show(uvloop.run(run()), as_json)


@app.command("demo", epilog="Example: gledger demo --credentials data/credentials.json")
def demo_command(
    credentials: Annotated[Path, typer.Option(help="The file that gledger dev wrote.")] = Path("data/credentials.json"),
) -> None:
    """Tell the story against a server that runs already."""
    found = demo.load(credentials)
    told = asyncio.run(demo.tell(found, credentials))
    raise typer.Exit(0 if told else 1)


@app.command(epilog="Example: gledger verify --organization acme-corp --environment production")
def verify(
    organization: Annotated[str | None, typer.Option(help="Only this organization's sites.")] = None,
    environment: Annotated[str | None, typer.Option(help="Only this environment.")] = None,
    processes: Annotated[
        int | None,
        typer.Option(min=1, max=64, help="How many look at once; as many as there are processors, four at most."),
    ] = None,
    auditor: Annotated[bool, typer.Option(hidden=True)] = False,
) -> None:
    """Replay the books and compare. Sequences, hash chain, lines and balances; the first bad row is named."""
    settings = _settings(dict(os.environ))
    if auditor:
        asyncio.run(auditors.serve(settings))
        return
    raise typer.Exit(asyncio.run(inspection.verify_sites(settings, organization, environment, processes)))


@app.command("doctor", epilog="Example: gledger doctor")
def doctor_command() -> None:
    """Print what is in force and what answers. Every setting, secrets masked; every part, by trying it."""
    settings = _settings(dict(os.environ))
    raise typer.Exit(asyncio.run(doctor.examine(settings)))


remote_cli.add_to(app)


def main() -> None:
    """Run the program; what it cannot do, it says in one line."""
    # SIGPIPE stays ignored, as Python has it: else every client that hangs up could end a server.
    try:
        app()
    except SettingsError as error:
        _end("\ngledger: ".join(error.problems), 2)
    except (ProgramError, AuthError, EngineError) as error:
        _end(str(error), 1)
    except DBAPIError as error:
        _end(_database_trouble(error), 1)
    except OSError as error:
        # A server that cannot be reached is the driver's own error, not SQLAlchemy's.
        _end(_database_trouble(error) if isinstance(error, ConnectionError | socket.gaierror) else str(error), 1)
    except KeyboardInterrupt:
        _end("interrupted", 130)


def _settings(environ: dict[str, str]) -> Settings:
    settings = Settings.from_env(environ)
    logging.configure(settings.log_level, settings.log_format)
    return settings


def _show(made: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(msgspec.json.encode(made).decode())
        return
    for name, value in made.items():
        print(f"{name:14} {' '.join(value) if isinstance(value, list) else value}")


def _database_trouble(error: DBAPIError | OSError) -> str:
    cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    told = str(cause).partition("\n")[0].rpartition(">: ")[2] or type(cause).__name__
    if is_outage(error):
        return f"the database did not answer: {told} (gledger doctor tells which)"
    return f"the database refused: {told} (is everything migrated? gledger doctor tells)"


def _end(message: str, code: int) -> NoReturn:
    print(f"gledger: {message}", file=sys.stderr)
    raise SystemExit(code)
