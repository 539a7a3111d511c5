"""The audit of categories, monitors and limits: whatever is changed behind the books' back is found, and its row is named."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from engine import category_audit
from engine.balances import Limit
from engine.category_commands import (
    ArchiveMonitor,
    CreateCategory,
    CreateMonitor,
    LinkCategory,
    PlaceAccount,
    UpdateCategory,
)
from engine.databases import Database
from tests.databases import DIALECTS, PostgresAddress, Templates, fresh_postgres, fresh_sqlite
from tests.store.engine_stage import Stage, entry, make_stage
from tests.store.test_engine_audit import NOBODY, TakeBack, tampered

FLOOR = (Limit(balance="available", at_least=-100, at_most=None),)
TOP = "(SELECT id FROM account_categories WHERE name = 'top')"
# fmt: off
CASES = [
    ("accounts", "UPDATE accounts SET limits = '[]' WHERE name = 'liability'"),
    ("accounts", "UPDATE accounts SET categories = 0 WHERE name = 'liability'"),
    ("accounts", "UPDATE accounts SET categories = 1 WHERE name = 'asset'"),
    ("accounts", "UPDATE accounts SET monitors = 0 WHERE name = 'liability'"),
    ("accounts", "UPDATE accounts SET monitors = 1 WHERE name = 'asset'"),
    ("account_categories", "UPDATE account_categories SET name = 'x' WHERE name = 'top'"),
    ("account_categories", "UPDATE account_categories SET limits = '[]' WHERE name = 'top'"),
    ("account_categories", "UPDATE account_categories SET monitors = 0 WHERE name = 'top'"),
    ("account_categories", "UPDATE account_categories SET normal_balance = 'debit' WHERE name = 'top'"),
    ("account_categories", "DELETE FROM account_categories WHERE name = 'top'"),
    ("account_categories", (f"INSERT INTO account_categories SELECT site_id, '{NOBODY}', ledger_id, name, description, "
                           "normal_balance, currency, currency_exponent, external_id, limits, monitors, metadata, created_at, "
                           "updated_at FROM account_categories WHERE name = 'low'")),
    ("category_accounts", "DELETE FROM category_accounts"),
    ("category_accounts", f"UPDATE category_accounts SET category_id = {TOP}"),
    ("category_accounts", f"INSERT INTO category_accounts SELECT site_id, {TOP}, account_id FROM category_accounts"),
    ("category_links", "DELETE FROM category_links"),
    ("category_links", "UPDATE category_links SET parent_id = child_id, child_id = parent_id"),
    ("category_balances", "UPDATE category_balances SET posted_credits = posted_credits + 1 WHERE posted_credits > 0"),
    ("category_balances", "UPDATE category_balances SET pending_debits = 0 WHERE pending_debits > 0"),
    ("category_balances", "UPDATE category_balances SET lock_version = 1"),
    ("category_balances", "DELETE FROM category_balances"),
    ("category_balances", f"INSERT INTO category_balances VALUES (7, '{NOBODY}', 0, 0, 0, 0, 1)"),
    ("balance_monitors", "UPDATE balance_monitors SET triggered = NOT triggered WHERE status = 'active'"),
    ("balance_monitors", "UPDATE balance_monitors SET value = value + 1 WHERE status = 'archived'"),
    ("balance_monitors", "UPDATE balance_monitors SET status = 'active' WHERE status = 'archived'"),
    ("balance_monitors", "DELETE FROM balance_monitors WHERE status = 'active'"),
    ("balance_monitors", (f"INSERT INTO balance_monitors SELECT site_id, '{NOBODY}', subject, subject_id, description, field, "
                         "operator, value, status, triggered, observed, metadata, lock_version, created_at, updated_at "
                         "FROM balance_monitors WHERE status = 'archived' AND subject = 'account'")),
]
# fmt: on


@pytest.fixture(params=DIALECTS)
async def stage(
    request: pytest.FixtureRequest, templates: Templates, tmp_path: Path, postgres_with_roles: PostgresAddress
) -> AsyncIterator[Stage]:
    """Books with categories in each other, monitors that fired, and limits, entered as the owner."""
    async with AsyncExitStack() as stack:
        if request.param == "sqlite":
            url = await fresh_sqlite(tmp_path, templates, "site")
        else:
            url = (await stack.enter_async_context(fresh_postgres(postgres_with_roles, templates, "site"))).owner_url
        database = Database.open(url)
        stack.push_async_callback(database.close)
        stage = await make_stage(database)
        cash, wallet = await stage.account("asset"), await stage.account("liability", limits=FLOOR)
        top, low = [await made(stage, name) for name in ("top", "low")]
        await stage.run(PlaceAccount(category_id=low, account_id=wallet, inside=True))
        await stage.run(LinkCategory(category_id=top, child_id=low, inside=True))
        await stage.run(UpdateCategory(category_id=top, limits=FLOOR))
        for subject, subject_id in (("account", wallet), ("account_category", top)):
            watch = CreateMonitor(subject=subject, subject_id=subject_id, field="posted", operator="gt", value=5)  # type: ignore[arg-type]
            await stage.run(watch)
            over = (await stage.run(watch))["id"]
            await stage.run(entry(cash, wallet, 20))
            await stage.run(ArchiveMonitor(monitor_id=over))
        await stage.run(entry(wallet, cash, 3, status="pending"))
        yield stage


async def made(stage: Stage, name: str) -> str:
    """Open a category."""
    return str((await stage.run(CreateCategory(name=name, currency="EUR", normal_balance="credit")))["id"])


async def test_every_tampering_with_categories_and_monitors_is_found(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The finding names the table; then all is taken back. Small pages are turned on the way."""
    monkeypatch.setattr(category_audit, "_PAGE", 2)
    assert await stage.verify() is None
    missed: list[Any] = []
    for table, statement in CASES:
        with pytest.raises(TakeBack) as back:
            await stage.write(tampered(stage, statement))
        if back.value.found is None or back.value.found.table != table:
            missed.append((statement, back.value.found))
    assert missed == []
    assert await stage.verify() is None
