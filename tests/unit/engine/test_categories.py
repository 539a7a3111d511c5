"""Categories: opening and changing them, what is put into them, and what that comes to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from engine.balances import Limit, Totals
from engine.books import Decision
from engine.categories import REACH_MAX
from engine.category_commands import CreateCategory, CreateMonitor, LinkCategory, PlaceAccount, UpdateCategory
from engine.commands import CreateLedger
from engine.errors import (
    AlreadyTaken,
    AmountOutOfRange,
    CategoryCycle,
    CategoryLimitReached,
    CategoryMismatch,
    CurrencyExponentUnknown,
    NotFound,
    PreconditionFailed,
)
from engine.membership import Membership
from engine.money import AMOUNT_MAX
from tests.fakes.clock import START_US
from tests.unit.engine.desk import SITE_ID, Desk, entry, told

NOBODY = "00000000-0000-7000-8000-000000000000"
LIMIT = Limit(balance="posted", at_least=None, at_most=100)


@pytest.fixture
def desk() -> Desk:
    """A desk."""
    return Desk()


def category(desk: Desk, **options: Any) -> str:
    """Open a category and return its id."""
    given = {"name": "c", "currency": "EUR", "normal_balance": "debit", **options}
    return desk.run(CreateCategory(**given)).resource_id or ""


def place(desk: Desk, where: str, account: str, *, inside: bool = True) -> Decision:
    """Put an account into a category, or take it out."""
    return desk.run(PlaceAccount(category_id=where, account_id=account, inside=inside))


def above(desk: Desk, *pairs: tuple[str, str]) -> None:
    """Let the database have said which categories stand above which, each above itself."""
    selves = {(each, each) for pair in pairs for each in pair}
    desk.books.membership.learn(above=[*pairs, *selves])


def counted(decision: Decision) -> int:
    """Return in how many categories the account of a decision is known to stand."""
    assert decision.account is not None
    return decision.account["categories"]


def amounts(desk: Desk, where: str) -> tuple[int, ...]:
    """Return a category's totals."""
    return desk.books.membership.totals(where)[:4]


def test_a_category_is_opened_with_nothing_in_it(desk: Desk) -> None:
    """Every member as it is stored."""
    decision = desk.run(
        CreateCategory(
            name="n", currency="JPY", normal_balance="credit", ledger_id=desk.ledger_id, description="d",
            external_id="x", limits=(LIMIT,), metadata={"k": "v"},
        )
    )  # fmt: skip
    [(kind, row)] = decision.resources
    assert kind == "account_category"
    assert row == {
        "site_id": SITE_ID,
        "id": decision.resource_id,
        "ledger_id": desk.ledger_id,
        "name": "n",
        "description": "d",
        "normal_balance": "credit",
        "currency": "JPY",
        "currency_exponent": 0,
        "external_id": "x",
        "limits": [{"balance": "posted", "at_least": None, "at_most": 100}],
        "monitors": 0,
        "metadata": {"k": "v"},
        "created_at": START_US,
        "updated_at": START_US,
    }
    assert decision.category_totals == {decision.resource_id: Totals(0, 0, 0, 0, 1)}
    [event] = decision.events
    assert (event.type, event.resource_type, event.resource_id, event.data, event.previous) == (
        "account_category.created", "account_category", decision.resource_id, decision.answer, None,
    )  # fmt: skip
    assert decision.lock_version == told(decision)["lock_version"] == 1


def test_a_category_that_cannot_be_is_refused(desk: Desk) -> None:
    """Of a ledger there is not, of a name that is taken, of a currency nobody knows the digits of."""
    with pytest.raises(NotFound, match="There is no ledger") as refused:
        category(desk, ledger_id=NOBODY)
    assert refused.value.pointer == "/ledger_id"
    first = category(desk, external_id="x")
    with pytest.raises(AlreadyTaken, match=rf"(?i)category {first}.*'x'"):
        category(desk, external_id="x")
    category(desk, external_id="y")
    with pytest.raises(CurrencyExponentUnknown):
        category(desk, currency="POINTS")
    assert told(desk.run(CreateCategory(name="c", currency="POINTS", normal_balance="debit", currency_exponent=3)))[
        "currency_exponent"
    ] == 3  # fmt: skip


def test_a_change_makes_a_version_and_tells_what_was_there(desk: Desk) -> None:
    """What is not given stays."""
    made = category(desk, name="n", description="d", metadata={"k": "v"})
    desk.now_us += 5
    changes: list[tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = [
        ({"name": "m"}, {"name": "m", "description": "d"}, {"name": "n"}),
        ({"description": "e"}, {"name": "m", "description": "e"}, {"description": "d"}),
        ({"metadata": {}}, {"metadata": {}, "description": "e"}, {"metadata": {"k": "v"}}),
        ({"limits": (LIMIT,)}, {"limits": [{"balance": "posted", "at_least": None, "at_most": 100}]}, {"limits": []}),
        ({"clear_description": True}, {"description": None, "name": "m"}, {"description": "e"}),
    ]
    for number, (given, shown, previous) in enumerate(changes, 2):
        decision = desk.run(UpdateCategory(category_id=made, if_match=number - 1, **given))
        answer = told(decision)
        assert {name: answer[name] for name in shown} == shown
        assert decision.lock_version == answer["lock_version"] == number
        [event] = decision.events
        assert (event.type, msgspec.json.decode(event.previous or b"")) == ("account_category.updated", previous)
        assert (answer["created_at"] < answer["updated_at"]) is True


def test_a_change_that_changes_nothing_is_none(desk: Desk) -> None:
    """No version and no event; and no change of another version, or of what is not there."""
    made = category(desk, name="n", description="d")
    decision = desk.run(UpdateCategory(category_id=made, name="n", description="d", limits=(), metadata={}))
    assert (decision.events, decision.resources, decision.lock_version) == ([], [], 1)
    assert (decision.resource_id, told(decision)["id"]) == (made, made)
    with pytest.raises(PreconditionFailed):
        desk.decide(UpdateCategory(category_id=made, name="m", if_match=2))
    with pytest.raises(NotFound, match="There is no account category"):
        desk.decide(UpdateCategory(category_id=NOBODY, name="m"))


def test_a_change_is_a_version_that_monitors_see(desk: Desk) -> None:
    """One that waits for a version waits for this one too."""
    made = category(desk)
    desk.run(CreateMonitor(subject="account_category", subject_id=made, field="lock_version", operator="gt", value=1))
    decision = desk.run(UpdateCategory(category_id=made, name="m"))
    assert [event.type for event in decision.events] == ["account_category.updated", "balance.threshold_crossed"]


def test_an_account_brings_what_it_has_and_takes_it_along(desk: Desk) -> None:
    """Into its category and all above it, each once; the answer says where it is now."""
    account, other = desk.account(), desk.account("liability")
    desk.post(account, other, 7)
    desk.post(other, account, 2, status="pending")
    low, middle, top = (category(desk) for _ in range(3))
    above(desk, (low, middle), (low, top), (middle, top))
    decision = place(desk, low, account)
    assert decision.placed == {(low, account): True}
    assert counted(decision) == 1
    assert {name: each[:4] for name, each in decision.category_totals.items()} == dict.fromkeys(
        (low, middle, top), (7, 0, 0, 2)
    )
    assert {each.lock_version for each in decision.category_totals.values()} == {2}
    [event] = decision.events
    assert (event.type, event.resource_type, event.resource_id, event.data) == (
        "account_category.member_added", "account_category", low, decision.answer,
    )  # fmt: skip
    answer = told(decision)
    assert (answer["is_member"], answer["member_type"], answer["member_id"]) == (True, "account", account)
    assert (decision.resource_id, decision.lock_version) == (low, 2)
    # By another way it is in two of them already: they do not move, but for the version of the one it was put into.
    decision = place(desk, middle, account)
    assert dict(decision.category_totals.items()) == {middle: Totals(7, 0, 0, 2, 3)}
    decision = place(desk, low, account, inside=False)
    assert decision.events[0].type == "account_category.member_removed"
    assert counted(decision) == 1
    assert (amounts(desk, low), amounts(desk, middle), amounts(desk, top)) == (
        (0, 0, 0, 0), (7, 0, 0, 2), (7, 0, 0, 2),
    )  # fmt: skip
    decision = place(desk, middle, account, inside=False)
    assert (amounts(desk, middle), amounts(desk, top)) == ((0, 0, 0, 0), (0, 0, 0, 0))
    assert counted(decision) == 0


def test_doing_it_again_changes_nothing(desk: Desk) -> None:
    """Neither in nor out; the answer is as if it had."""
    account, where = desk.account(), category(desk)
    for inside in (False, True, True, False, False):
        before = inside == (account in {each for each in (account,) if where in desk.books.membership.direct(account)})
        decision = place(desk, where, account, inside=inside)
        assert (decision.events == []) == before
        assert told(decision)["is_member"] == inside
        assert decision.resource_id == where
        assert decision.lock_version == desk.books.membership.totals(where).lock_version


def test_what_does_not_fit_is_kept_out(desk: Desk) -> None:
    """Another currency, other digits, another ledger; a category of no ledger takes all."""
    where, anywhere = category(desk, ledger_id=desk.ledger_id), category(desk)
    other = desk.run(CreateLedger(name="Other")).resource_id or ""
    stranger = desk.account(ledger_id=other)
    for account in (desk.account(currency="USD"), desk.account(currency_exponent=3)):
        with pytest.raises(CategoryMismatch, match="EUR with 2 digits"):
            desk.decide(PlaceAccount(category_id=where, account_id=account, inside=True))
    with pytest.raises(CategoryMismatch, match=desk.ledger_id):
        desk.decide(PlaceAccount(category_id=where, account_id=stranger, inside=True))
    place(desk, anywhere, stranger)
    place(desk, where, desk.account())
    with pytest.raises(NotFound, match="There is no account"):
        place(desk, where, NOBODY)
    with pytest.raises(NotFound):
        place(desk, NOBODY, stranger)


def test_an_account_counts_in_a_hundred_categories_at_most(desk: Desk) -> None:
    """What a posting has to move is bounded."""
    account, where, last = desk.account(), category(desk), category(desk)
    highs = [f"high-{number}" for number in range(REACH_MAX - 1)]
    desk.books.membership.learn(totals=[(each, Totals(0, 0, 0, 0, 1)) for each in highs])
    above(desk, *((where, each) for each in highs))
    place(desk, where, account)
    with pytest.raises(CategoryLimitReached, match="100") as refused:
        place(desk, last, account)
    assert account in refused.value.detail
    assert REACH_MAX == 100


def test_sums_that_no_balance_can_have_are_refused(desk: Desk) -> None:
    """Two accounts that are each as large as can be do not fit into one category."""
    first, second, other, where = desk.account(), desk.account(), desk.account("liability"), category(desk)
    desk.run(entry(first, other, AMOUNT_MAX))
    place(desk, where, first)
    third = desk.account("liability")
    desk.run(entry(second, third, 1))
    with pytest.raises(AmountOutOfRange, match="category") as refused:
        place(desk, where, second)
    assert where in refused.value.detail


def test_limits_and_monitors_of_categories_see_what_comes_in(desk: Desk) -> None:
    """Putting an account in is no posting, so that no limit refuses it; a monitor sees it."""
    account, other, where = desk.account(), desk.account("liability"), category(desk, limits=(LIMIT,))
    desk.post(account, other, 200)
    desk.run(CreateMonitor(subject="account_category", subject_id=where, field="posted", operator="gt", value=100))
    decision = place(desk, where, account)
    assert [event.type for event in decision.events] == [
        "account_category.member_added", "balance.threshold_crossed",
    ]  # fmt: skip


def linking(
    desk: Desk, parent: str, child: str, *, inside: bool, comes_to: Mapping[str, tuple[int, int, int, int]]
) -> Decision:
    """Link two categories where the database says what the ones above will come to."""
    desk.books.membership.learn(unions=[(name, Totals(*each, 0)) for name, each in comes_to.items()])
    return desk.run(LinkCategory(category_id=parent, child_id=child, inside=inside))


def test_a_category_brings_all_that_is_in_it(desk: Desk) -> None:
    """What was counted there already is not counted twice: the sums are read, and one that stays does not move."""
    low, high, top = (category(desk) for _ in range(3))
    above(desk, (high, top))
    comes_to = {high: (9, 0, 0, 0), top: (0, 0, 0, 0)}
    decision = linking(desk, high, low, inside=True, comes_to=comes_to)
    assert decision.category_totals == {high: Totals(9, 0, 0, 0, 2)}
    assert decision.linked == {(high, low): True}
    answer = told(decision)
    assert (answer["is_member"], answer["member_type"], answer["member_id"]) == (True, "account_category", low)
    assert decision.events[0].type == "account_category.member_added"
    desk.books.membership.learn(links=[((high, low), True)])
    again = linking(desk, high, low, inside=True, comes_to=comes_to)
    assert (again.events, again.linked, told(again)["is_member"]) == ([], {}, True)
    assert told(again)["member_type"] == "account_category"
    decision = linking(desk, high, low, inside=False, comes_to={high: (0, 0, 0, 0), top: (0, 0, 0, 0)})
    assert (decision.events[0].type, decision.linked) == ("account_category.member_removed", {(high, low): False})
    assert amounts(desk, high) == (0, 0, 0, 0)


def test_a_circle_is_refused(desk: Desk) -> None:
    """Also one of a category with itself."""
    low, high = category(desk), category(desk)
    above(desk, (low, high))
    with pytest.raises(CategoryCycle) as refused:
        linking(desk, low, high, inside=True, comes_to={})
    assert low in refused.value.detail
    with pytest.raises(CategoryCycle):
        linking(desk, low, low, inside=True, comes_to={})


def test_categories_have_to_fit_and_stay_within_reach(desk: Desk) -> None:
    """As accounts have to."""
    euros, yen, one_ledger = category(desk), category(desk, currency="JPY"), category(desk, ledger_id=desk.ledger_id)
    with pytest.raises(CategoryMismatch):
        linking(desk, euros, yen, inside=True, comes_to={})
    with pytest.raises(CategoryMismatch):
        linking(desk, one_ledger, euros, inside=True, comes_to={})
    highs = [f"high-{number}" for number in range(REACH_MAX - 1)]
    parent, child = category(desk), category(desk)
    above(desk, *((parent, each) for each in highs[:-1]))
    within = dict.fromkeys((parent, *highs[:-1]), (0, 0, 0, 0))
    desk.books.membership.learn(totals=[(each, Totals(0, 0, 0, 0, 1)) for each in highs])
    linking(desk, parent, child, inside=True, comes_to=within)
    above(desk, *((parent, each) for each in highs))
    with pytest.raises(CategoryLimitReached, match="100") as refused:
        linking(desk, parent, child, inside=True, comes_to=within)
    assert child in refused.value.detail
    with pytest.raises(NotFound):
        linking(desk, parent, NOBODY, inside=True, comes_to={})


def test_membership_is_told_apart_from_layer_to_layer() -> None:
    """What a layer is told, the one below does not know."""
    below = Membership()
    below.learn(direct=[("a", "x")])
    layer = below.layer()
    layer.apply({}, {("y", "a"): True})
    assert (sorted(layer.direct("a")), sorted(below.direct("a"))) == (["x", "y"], ["x"])
