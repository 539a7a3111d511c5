"""Names of reference data and codes of accounts are taken once, whoever races for them; what is gone is free."""

from __future__ import annotations

import pytest

from engine import reference_queries
from engine.commands import Command, CreateAccount, UpdateAccount
from engine.databases import Database
from engine.errors import AlreadyTaken
from engine.events import Diagnostics
from engine.fold import Committed, Submission
from engine.queries import Selection
from engine.reference_commands import CreateReference
from engine.reference_errors import AccountCodeTaken
from tests.store.engine_stage import Stage, make_stage, outcomes
from tests.unit.engine.knowing import REFERENCE


@pytest.fixture
async def stage(site_database: Database) -> Stage:
    """A site with one ledger."""
    return await make_stage(site_database)


async def test_one_of_those_who_race_for_a_name_gets_it(stage: Stage) -> None:
    """Codes of accounts, of currencies and products, external ids of entities; by two processes and within a batch."""
    other = stage.another()
    account = CreateAccount(ledger_id=stage.ledger_id, name="n", type="asset", currency="EUR", code="1000")
    wanted: list[tuple[Command, type[Exception]]] = [(account, AccountCodeTaken)]
    wanted += [(CreateReference(kind=kind, fields=REFERENCE[kind]), AlreadyTaken) for kind in REFERENCE]
    for command, refusal in wanted:
        tries = [engine.submit(stage.site, command) for engine in (stage.engine, other) for _ in range(4)]
        ended = await outcomes(*tries)
        assert len([each for each in ended if isinstance(each, Committed)]) == 1
        assert len([each for each in ended if isinstance(each, refusal)]) == len(tries) - 1, ended
    assert await stage.verify() is None


async def test_a_code_changes_hands_within_a_batch(stage: Stage) -> None:
    """Given up by one and taken by another, by one that exists and by a new one; a swap has to go through a third."""
    first, second = [await stage.account("asset", code=code) for code in ("1000", "2000")]
    writer = stage.writer()
    commands: list[Command] = [
        UpdateAccount(account_id=first, code="3000"),
        UpdateAccount(account_id=second, code="1000"),
        CreateAccount(ledger_id=stage.ledger_id, name="n", type="asset", currency="EUR", code="2000"),
        UpdateAccount(account_id=first, code="2000"),
        UpdateAccount(account_id=first, clear_code=True),
    ]
    ended = await outcomes(
        *(writer.submit(Submission(command=each, key=None, diagnostics=Diagnostics())) for each in commands)
    )
    assert [isinstance(each, Committed) for each in ended] == [True, True, True, False, True]
    assert isinstance(ended[3], AccountCodeTaken)
    assert await stage.verify() is None


async def test_reference_data_is_found_by_its_metadata(stage: Stage) -> None:
    """Like everything else; currencies stand among the standard's in the order of their codes."""
    for kind, fields in REFERENCE.items():
        await stage.run(CreateReference(kind=kind, fields=fields))

    async def found(value: str) -> list[str]:
        wanted, ask = Selection(metadata={"kind": value}), stage.engine.ask
        entities = (await ask(stage.site, reference_queries.list_entities, wanted)).value.items
        products = (await ask(stage.site, reference_queries.list_products, wanted)).value.items
        currencies = (await ask(stage.site, reference_queries.list_currencies, wanted)).value.items
        names = [each.name for each in entities] + [each.name for each in products]
        return names + [each.name for each in currencies]

    assert [await found(value) for value in ("cash", "card", "points", "none")] == [["Acme"], ["Card"], ["Points"], []]
