"""Every setting of the program, read once from `GLEDGER_*` where the program is put together, then passed as arguments.

`SETTINGS` is the one list: names, defaults, meanings. `docs/settings.md` is made from it. Nothing else reads the environment.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from engine.idempotency import RETENTION_DAYS_MAX
from gledger import readers
from gledger.errors import SettingsError
from gledger.readers import MASTER_KEY_BYTES, Network

PREFIX: Final = "GLEDGER_"
TOKEN_TTL_S_MAX: Final = 600
MASK: Final = "•••"


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One setting: its name without the prefix, its default as text, how it is read, and what it means."""

    name: str
    default: str
    read: Callable[[str], Any]
    meaning: str
    shown_default: str = ""
    secret: bool = False


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Settings:
    """What is in force. Field names are the settings' names in lower case."""

    data: Path
    database_url: str
    control_database_url: str
    migration_database_url: str
    migration_control_database_url: str
    database_pool_size: int
    redis_url: str
    master_key: bytes | None
    public_url: str
    host: str
    port: int
    log_level: str
    log_format: str
    trusted_proxies: tuple[Network, ...]
    metrics_token: str
    worker_metrics_port: int | None
    token_ttl_s: int
    rate_limit_per_s: int
    idempotency_days: int
    feed_retention_days: int
    attempt_retention_days: int
    stream_max_seconds: int
    stream_checkpoint_s: float
    stream_send_timeout_s: float
    stream_origins: tuple[str, ...]
    webhook_retry_schedule: tuple[int, ...]
    webhook_timeout_s: float
    webhook_disable_after_s: int
    webhook_allow_private: bool
    egress_proxy: str
    drain_timeout_s: float

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Settings:
        """Read the settings, raising one `SettingsError` that names everything that is wrong.

        A variable that is set and empty counts as not set.
        """
        given = {name: value.strip() for name, value in environ.items() if name.startswith(PREFIX) and value.strip()}
        known = BY_NAME.keys() | OF_COMMANDS
        problems = [_unknown(name) for name in sorted(given) if name.removeprefix(PREFIX) not in known]
        values: dict[str, Any] = {}
        for setting in SETTINGS:
            try:
                values[setting.name.lower()] = setting.read(given.get(PREFIX + setting.name, setting.default))
            except ValueError as error:
                problems.append(f"{PREFIX}{setting.name}: {error}")
        if problems:
            raise SettingsError(tuple(problems))
        return cls(**_derived(values))

    def require_production(self) -> None:
        """Refuse what only `gledger dev` provides for itself; raises `SettingsError` naming each setting to give."""
        problems = [
            f"{PREFIX}{name} must be a postgresql URL: SQLite has one writing process, which is `gledger dev`"
            for name, url in (("DATABASE_URL", self.database_url), ("CONTROL_DATABASE_URL", self.control_database_url))
            if url.startswith("sqlite")
        ]
        if not self.redis_url:
            problems.append(f"{PREFIX}REDIS_URL must be set: redis://host:port/0")
        if self.master_key is None:
            problems.append(f"{PREFIX}MASTER_KEY must be set: {MASTER_KEY_BYTES} random bytes in base64")
        if problems:
            raise SettingsError(tuple(problems))

    def masked(self) -> dict[str, str]:
        """Return every setting as text, fit for a terminal or a log: secrets and passwords in URLs are masked."""
        return {PREFIX + setting.name: _shown(setting, getattr(self, setting.name.lower())) for setting in SETTINGS}

    def __repr__(self) -> str:
        return f"Settings({', '.join(f'{name}={value!r}' for name, value in self.masked().items())})"


def reference() -> str:
    """Return the settings as a Markdown table: the text of `docs/settings.md`."""
    rows = [
        f"| `{PREFIX}{setting.name}` | {_default_cell(setting)} | {setting.meaning} |"
        for setting in sorted(SETTINGS, key=lambda setting: setting.name)
    ]
    return "\n".join(
        [
            "# Settings",
            "",
            "Read once from the environment when the program starts. An unknown `GLEDGER_` name is an error, so a typing",
            "mistake cannot pass for a default. `gledger doctor` prints what is in force, secrets masked.",
            "",
            "| setting | default | meaning |",
            "|---|---|---|",
            *rows,
            "",
        ]
    )


def _default_cell(setting: Setting) -> str:
    if setting.shown_default:
        return setting.shown_default
    return f"`{setting.default}`" if setting.default else "none"


def _unknown(name: str) -> str:
    near = difflib.get_close_matches(name, [PREFIX + setting.name for setting in SETTINGS], n=1, cutoff=0.0)
    return f"{name} is not a setting; did you mean {near[0]}?"


def _derived(values: dict[str, Any]) -> dict[str, Any]:
    """Fill in the defaults that follow from other settings."""
    folder = values["data"]
    values["database_url"] = (
        values["database_url"] or f"sqlite+aiosqlite:///{folder}/{{organization}}-{{environment}}.sqlite3"
    )
    values["control_database_url"] = values["control_database_url"] or f"sqlite+aiosqlite:///{folder}/control.sqlite3"
    values["migration_database_url"] = values["migration_database_url"] or values["database_url"]
    values["migration_control_database_url"] = (
        values["migration_control_database_url"] or values["control_database_url"]
    )
    host = f"[{values['host']}]" if ":" in values["host"] else values["host"]
    values["public_url"] = values["public_url"] or f"http://{host}:{values['port']}"
    return values


def _shown(setting: Setting, value: Any) -> str:
    if value is None:
        return ""
    if setting.secret:
        return MASK if value else ""
    if isinstance(value, str) and "://" in value:
        return _without_password(value)
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, tuple):
        return ",".join(f"{item:g}" if isinstance(item, float) else str(item) for item in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    before, at, after = parts.netloc.rpartition("@")
    user, colon, _ = before.partition(":")
    hidden = f"{user}{colon}{MASK if colon else ''}{at}{after}"
    query = "&".join(
        f"{pair.partition('=')[0]}={MASK}" if "password" in pair.lower() else pair for pair in parts.query.split("&")
    )
    return parts._replace(netloc=hidden, query=query).geturl() if parts.netloc else url


SETTINGS: Final = (
    Setting(name="DATA", default="data", read=readers.folder, meaning="Folder of everything `gledger dev` keeps."),
    Setting(
        name="DATABASE_URL",
        default="",
        shown_default="a SQLite file per site in `DATA`",
        read=readers.site_database,
        meaning="Database of the sites; `{organization}` and `{environment}` in it are replaced by the site's.",
    ),
    Setting(
        name="CONTROL_DATABASE_URL",
        default="",
        shown_default="`control.sqlite3` in `DATA`",
        read=readers.database,
        meaning="Database of organizations, credentials, placements and the audit log.",
    ),
    Setting(
        name="MIGRATION_DATABASE_URL",
        default="",
        shown_default="`GLEDGER_DATABASE_URL`",
        read=readers.site_database,
        meaning="The sites' database as the role that owns the tables; only `gledger migrate` uses it.",
    ),
    Setting(
        name="MIGRATION_CONTROL_DATABASE_URL",
        default="",
        shown_default="`GLEDGER_CONTROL_DATABASE_URL`",
        read=readers.database,
        meaning="The control database as the role that owns the tables; only `gledger migrate` uses it.",
    ),
    Setting(
        name="DATABASE_POOL_SIZE",
        default="10",
        read=readers.whole(1, 1000),
        meaning="Connections a process keeps open to PostgreSQL; under load it may open as many again.",
    ),
    Setting(
        name="REDIS_URL",
        default="",
        shown_default="embedded in `gledger dev`",
        read=readers.redis,
        meaning="Redis or Valkey that carries wake-ups and timers: `redis://`, `rediss://` or `unix://`.",
    ),
    Setting(
        name="MASTER_KEY",
        default="",
        shown_default="made by `gledger dev`",
        read=readers.master_key,
        secret=True,
        meaning="32 random bytes in base64 that encrypt stored secrets. Losing it loses them.",
    ),
    Setting(
        name="PUBLIC_URL",
        default="",
        shown_default="`http://HOST:PORT`",
        read=readers.public_url,
        meaning="Address at which clients reach the gateway: token issuer, links, documentation.",
    ),
    Setting(name="HOST", default="127.0.0.1", read=readers.text, meaning="Address the gateway listens on."),
    Setting(
        name="PORT",
        default="8080",
        read=readers.whole(0, 65535),
        meaning="Port the gateway listens on; 0 takes a free one.",
    ),
    Setting(
        name="LOG_LEVEL",
        default="info",
        read=readers.one_of("debug", "info", "warning", "error"),
        meaning="Least level that is logged: debug, info, warning or error.",
    ),
    Setting(
        name="LOG_FORMAT",
        default="auto",
        read=readers.one_of("auto", "json", "console"),
        meaning="`json`, one object a line, or `console`; `auto` is console on a terminal.",
    ),
    Setting(
        name="TRUSTED_PROXIES",
        default="",
        read=readers.networks,
        meaning="Addresses and networks whose `X-Forwarded-For` and `X-Forwarded-Proto` are believed, comma separated.",
    ),
    Setting(
        name="METRICS_TOKEN",
        default="",
        shown_default="none: `/metrics` answers loopback addresses only",
        read=readers.text,
        secret=True,
        meaning="Bearer token that `/metrics` demands.",
    ),
    Setting(
        name="WORKER_METRICS_PORT",
        default="",
        shown_default="none",
        read=readers.port,
        meaning="Port on which a worker answers `/metrics` itself; 0 takes a free one.",
    ),
    Setting(
        name="TOKEN_TTL_S",
        default="600",
        read=readers.whole(10, TOKEN_TTL_S_MAX),
        meaning="Seconds an access token is good for, at most 600.",
    ),
    Setting(
        name="RATE_LIMIT_PER_S",
        default="10000",
        read=readers.whole(0),
        meaning="Requests a second that one client or API key may make in each process; 0 is no limit.",
    ),
    Setting(
        name="IDEMPOTENCY_DAYS",
        default="7",
        read=readers.whole(1, RETENTION_DAYS_MAX),
        meaning=f"Days an idempotency key is remembered, 1 to {RETENTION_DAYS_MAX}.",
    ),
    Setting(
        name="FEED_RETENTION_DAYS",
        default="0",
        read=readers.whole(0),
        meaning="Days of events that lists and streams serve; 0 is everything. Nothing is removed by it.",
    ),
    Setting(
        name="ATTEMPT_RETENTION_DAYS",
        default="90",
        read=readers.whole(0),
        meaning="Days the requests and answers of finished deliveries are kept; 0 is for ever. Deliveries always are.",
    ),
    Setting(
        name="STREAM_MAX_SECONDS",
        default="3600",
        read=readers.whole(1),
        meaning="Longest life of one stream connection; the client then resumes from its cursor.",
    ),
    Setting(
        name="STREAM_CHECKPOINT_S",
        default="15",
        read=readers.timeout,
        meaning="Seconds of silence after which a stream says how far it has come; less than any proxy's idle limit.",
    ),
    Setting(
        name="STREAM_SEND_TIMEOUT_S",
        default="30",
        read=readers.timeout,
        meaning="Seconds for which a client may take nothing of what waits for it before its stream is broken off.",
    ),
    Setting(
        name="STREAM_ORIGINS",
        default="",
        shown_default="none: only pages of this server",
        read=readers.origins,
        meaning="Web origins whose pages may follow streams, comma separated: `https://dashboard.example`.",
    ),
    Setting(
        name="WEBHOOK_RETRY_SCHEDULE",
        default="0,5,300,1800,7200,18000,36000,50400,72000,86400",
        read=readers.schedule,
        meaning="Whole seconds before each attempt of a delivery, comma separated, each with ±20 % jitter.",
    ),
    Setting(
        name="WEBHOOK_DISABLE_AFTER_S",
        default="432000",
        read=readers.whole(3600, 365 * 86_400),
        meaning="Seconds of failing without a success after which an endpoint is disabled; it may say otherwise for itself.",
    ),
    Setting(
        name="WEBHOOK_TIMEOUT_S",
        default="15",
        read=readers.timeout,
        meaning="Total seconds one attempt may take, from name look-up to the end of the answer.",
    ),
    Setting(
        name="WEBHOOK_ALLOW_PRIVATE",
        default="off",
        read=readers.switch,
        meaning="Deliver to private, loopback and plain http addresses. For development: `gledger dev` turns it on.",
    ),
    Setting(
        name="EGRESS_PROXY",
        default="",
        shown_default="none: webhooks are sent directly",
        read=readers.proxy,
        meaning="HTTP proxy (`http://user:password@host:port`) through which every webhook goes out; its failures count as ours.",
    ),
    Setting(
        name="DRAIN_TIMEOUT_S",
        default="20",
        read=readers.timeout,
        meaning="Seconds a process takes at most to finish its work after SIGTERM.",
    ),
)
OF_COMMANDS: Final = frozenset({"BASE_URL", "API_KEY", "WEBHOOK_KEY"})
"""Not settings of a server: with these, commands that speak to one know which, and who they are."""
BY_NAME: Final = {setting.name: setting for setting in SETTINGS}


if __name__ == "__main__":
    print(reference(), end="")
