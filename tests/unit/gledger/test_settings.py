"""Settings: read once, every error named at once, secrets never shown."""

from __future__ import annotations

import base64
import dataclasses
import ipaddress
from pathlib import Path

import pytest

from gledger.errors import SettingsError
from gledger.settings import PREFIX, SETTINGS, Settings, reference

ROOT = Path(__file__).parents[3]
KEY = base64.b64encode(bytes(range(32))).decode()


def problems_of(environ: dict[str, str]) -> tuple[str, ...]:
    """Return what is wrong with an environment."""
    with pytest.raises(SettingsError) as caught:
        Settings.from_env(environ)
    return caught.value.problems


def test_an_empty_environment_is_the_embedded_default(tmp_path: Path) -> None:
    """Without any setting everything is in the data folder, on loopback."""
    settings = Settings.from_env({"GLEDGER_DATA": str(tmp_path)})
    assert settings.database_url == f"sqlite+aiosqlite:///{tmp_path}/{{organization}}-{{environment}}.sqlite3"
    assert settings.control_database_url == f"sqlite+aiosqlite:///{tmp_path}/control.sqlite3"
    assert settings.migration_database_url == settings.database_url
    assert settings.public_url == "http://127.0.0.1:8080"
    assert settings.webhook_retry_schedule == (0, 5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400)
    assert settings.webhook_allow_private is False
    assert settings.master_key is None


def test_values_are_read_into_their_types() -> None:
    """Text becomes numbers, switches, networks and keys."""
    settings = Settings.from_env(
        {
            "GLEDGER_PORT": "9000",
            "GLEDGER_HOST": "::1",
            "GLEDGER_MASTER_KEY": KEY,
            "GLEDGER_TRUSTED_PROXIES": "10.0.0.0/8, ::1",
            "GLEDGER_WEBHOOK_RETRY_SCHEDULE": "0, 1,2",
            "GLEDGER_WEBHOOK_ALLOW_PRIVATE": "On",
            "GLEDGER_WEBHOOK_TIMEOUT_S": "2.5",
            "UNRELATED": "x",
        }
    )
    assert settings.public_url == "http://[::1]:9000"
    assert settings.master_key == bytes(range(32))
    assert settings.trusted_proxies == (ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("::1"))
    assert settings.webhook_retry_schedule == (0, 1, 2)
    assert settings.webhook_allow_private is True
    assert settings.webhook_timeout_s == 2.5


def test_a_url_safe_key_without_padding_is_the_same_key() -> None:
    """Both alphabets of base64 are in use."""
    raw = bytes(range(223, 255))
    given = base64.urlsafe_b64encode(raw).decode().rstrip("=")
    assert Settings.from_env({"GLEDGER_MASTER_KEY": given}).master_key == raw


def test_an_unknown_name_is_an_error_with_the_nearest_match() -> None:
    """A typing mistake cannot pass for a default."""
    [problem] = problems_of({"GLEDGER_WEBHOOK_RETRY_SHEDULE": "1"})
    assert problem == "GLEDGER_WEBHOOK_RETRY_SHEDULE is not a setting; did you mean GLEDGER_WEBHOOK_RETRY_SCHEDULE?"


def test_every_error_is_named_at_once() -> None:
    """One start shows all that is to be mended."""
    problems = problems_of({"GLEDGER_PORT": "x", "GLEDGER_MASTER_KEY": "short", "GLEDGER_POTR": "1"})
    assert [problem.split(":")[0].split(" ")[0] for problem in problems] == [
        "GLEDGER_POTR",
        "GLEDGER_MASTER_KEY",
        "GLEDGER_PORT",
    ]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_URL", "mysql://host/x"),
        ("DATABASE_URL", "nonsense"),
        ("DATABASE_URL", "sqlite+aiosqlite:////tmp/one-for-all.sqlite3"),
        ("REDIS_URL", "localhost:6379"),
        ("MASTER_KEY", "ä"),
        ("PUBLIC_URL", "ftp://x"),
        ("PUBLIC_URL", "https://x/?a=b"),
        ("PORT", "65536"),
        ("PORT", "-1"),
        ("IDEMPOTENCY_DAYS", "0"),
        ("TOKEN_TTL_S", "601"),
        ("LOG_LEVEL", "loud"),
        ("TRUSTED_PROXIES", "10.0.0.1/8"),
        ("WEBHOOK_RETRY_SCHEDULE", "0,,5"),
        ("WEBHOOK_RETRY_SCHEDULE", "-1"),
        ("WEBHOOK_RETRY_SCHEDULE", "nan"),
        ("WEBHOOK_TIMEOUT_S", "0"),
        ("WEBHOOK_ALLOW_PRIVATE", "maybe"),
    ],
)
def test_a_malformed_value_is_refused_by_name(name: str, value: str) -> None:
    """What the program could not use is refused before it starts."""
    [problem] = problems_of({PREFIX + name: value})
    assert problem.startswith(f"{PREFIX}{name}: ")


def test_production_refuses_what_only_dev_provides() -> None:
    """Each setting to give is named."""
    with pytest.raises(SettingsError) as caught:
        Settings.from_env({}).require_production()
    assert [problem.split(" ")[0] for problem in caught.value.problems] == [
        "GLEDGER_DATABASE_URL",
        "GLEDGER_CONTROL_DATABASE_URL",
        "GLEDGER_REDIS_URL",
        "GLEDGER_MASTER_KEY",
    ]
    Settings.from_env(
        {
            "GLEDGER_DATABASE_URL": "postgresql+asyncpg://host/gledger",
            "GLEDGER_CONTROL_DATABASE_URL": "postgresql+asyncpg://host/gledger",
            "GLEDGER_REDIS_URL": "redis://host",
            "GLEDGER_MASTER_KEY": KEY,
        }
    ).require_production()


def test_no_secret_is_shown() -> None:
    """Neither `doctor` nor a traceback tells a secret or a password."""
    settings = Settings.from_env(
        {
            "GLEDGER_MASTER_KEY": KEY,
            "GLEDGER_METRICS_TOKEN": "hunter2",
            "GLEDGER_DATABASE_URL": "postgresql+asyncpg://user:hunter2@host/db?password=hunter2&ssl=require",
            "GLEDGER_REDIS_URL": "redis://:hunter2@host/0",
        }
    )
    shown = settings.masked()
    for text in (str(shown), repr(settings)):
        assert "hunter2" not in text
        assert KEY not in text
        assert str(settings.master_key) not in text
    assert shown["GLEDGER_DATABASE_URL"] == "postgresql+asyncpg://user:•••@host/db?password=•••&ssl=require"
    assert shown["GLEDGER_MASTER_KEY"] == "•••"
    assert shown["GLEDGER_WEBHOOK_TIMEOUT_S"] == "15"


def test_the_list_and_the_fields_are_the_same() -> None:
    """A setting is in the list, in the fields, and in what `doctor` shows."""
    names = {setting.name for setting in SETTINGS}
    assert names == {field.name.upper() for field in dataclasses.fields(Settings)}
    assert {PREFIX + name for name in names} == Settings.from_env({}).masked().keys()


def test_the_documented_settings_are_these() -> None:
    """`docs/settings.md` is what the list says; `python -m gledger.settings > docs/settings.md` writes it."""
    assert (ROOT / "docs/settings.md").read_text(encoding="utf-8") == reference()
