"""The deployment files say only what the program and the database understand."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import yaml

from gledger.settings import Settings
from tests.servers import Postgres

ROOT = Path(__file__).parents[3]
KEY = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
INTERPOLATED = re.compile(r"\$\{(?P<name>[A-Z_]+):(?P<kind>[-?])(?P<text>[^}]*)\}")


def compose(**given: str) -> dict[str, Any]:
    """Return `compose.yaml` with its variables replaced: by what is given, else by their defaults."""

    def value(match: re.Match[str]) -> str:
        if match["name"] in given:
            return given[match["name"]]
        assert match["kind"] == "-", f"{match['name']} is required"
        return match["text"]

    document: dict[str, Any] = yaml.safe_load(INTERPOLATED.sub(value, (ROOT / "compose.yaml").read_text("utf-8")))
    return document


@pytest.mark.parametrize("service", ["migrate", "gateway", "worker"])
def test_a_service_starts_with_settings_that_are_fit_for_production(service: str) -> None:
    """Every setting in `compose.yaml` is one, and nothing that production needs is missing."""
    image = dict(re.findall(r"\b(GLEDGER_[A-Z_]+)=(\S+)", (ROOT / "Dockerfile").read_text("utf-8")))
    settings = Settings.from_env(image | compose(GLEDGER_MASTER_KEY=KEY)["services"][service]["environment"])
    settings.require_production()
    assert settings.host == "0.0.0.0"
    owns = "gledger_owner" in settings.migration_database_url
    assert owns == (service == "migrate"), "only migrations know the owner"
    assert "gledger_app" in settings.database_url


def test_the_master_key_is_never_made_up() -> None:
    """Without a master key compose refuses to start instead of using one that everybody knows."""
    with pytest.raises(AssertionError, match="GLEDGER_MASTER_KEY is required"):
        compose()


def test_files_that_services_mount_are_there() -> None:
    """A path that does not exist would be mounted as an empty folder."""
    for service in compose(GLEDGER_MASTER_KEY=KEY)["services"].values():
        for volume in service.get("volumes", []):
            if volume.startswith("./"):
                assert (ROOT / volume.split(":")[0]).exists()


def test_dashboards_and_alerts_name_metrics_that_exist() -> None:
    """An alert on a metric that nobody exports never fires."""
    product = "".join(
        path.read_text("utf-8")
        for package in ("gateway", "delivery", "gledger")
        for path in sorted((ROOT / package).rglob("*.py"))
    )
    used = {
        name
        for path in (ROOT / "ops").rglob("*.*")
        if path.suffix in {".json", ".yml"}
        for name in re.findall(r"\bgledger_[a-z_]+", path.read_text("utf-8"))
    }
    assert used
    assert [name for name in sorted(used) if f'"{re.sub("_(bucket|count|sum)$", "", name)}"' not in product] == []


async def test_the_applications_role_owns_nothing(tmp_path: Path) -> None:
    """The script that prepares PostgreSQL runs, and the role it makes may connect and not create."""
    with Postgres() as server:
        url = server.url().replace("+asyncpg", "")
        environ = {
            "PATH": f"{server.programs}{os.pathsep}{os.environ['PATH']}",
            "PGHOST": "127.0.0.1",
            "PGPORT": str(server.port),
            "POSTGRES_USER": "postgres",
            "POSTGRES_DB": "postgres",
            "POSTGRES_APP_PASSWORD": "with 'quotes'",
        }
        subprocess.run(
            ["sh", ROOT / "ops/postgres/roles.sh"], env=environ, check=True, capture_output=True, cwd=tmp_path
        )
        connection = await asyncpg.connect(
            url.replace("postgres@", "gledger_app@").replace("/postgres", "/gledger_control")
        )
        try:
            assert await connection.fetchval("SELECT pg_has_role('gledger_runtime', 'MEMBER')")
            assert not await connection.fetchval("SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = user")
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute("CREATE TABLE mine (id int)")
        finally:
            await connection.close()
