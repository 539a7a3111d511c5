"""What holds of a site's books at any moment, worked out from nothing but what the API answers."""

from __future__ import annotations

from collections import defaultdict
from typing import Any, Final

from tests.journeys.conftest import SiteClient

SIDES: Final = ("debits", "credits")
_STATE: Final = {"entry.created", "entry.updated", "entry.posted", "entry.archived", "entry.reversed"}


async def listed(site: SiteClient, path: str, *, at: int = 0, limit: int = 100) -> list[Any]:
    """Return everything in a list, page after page."""
    found: list[Any] = []
    cursor = ""
    while True:
        separator = "&" if "?" in path else "?"
        page = await site.ask("GET", f"{path}{separator}limit={limit}{cursor}", at=at)
        found += page["data"]
        if not page["has_more"]:
            return found
        cursor = f"&cursor={page['next_cursor']}"


async def check(site: SiteClient) -> None:
    """Check the six invariants of a ledger; nothing may be written meanwhile.

    Conservation, no negative component, balances that follow from their sides, no overdraft where there must be none,
    holds that add up to what is pending, and a feed that tells every balance. That a refusal leaves every balance as it
    was is seen by the feed: it has exactly the events of what was accepted.
    """
    accounts = await listed(site, "/v1/accounts")
    entries = await listed(site, "/v1/entries", at=1)
    sums: dict[tuple[str, str], int] = defaultdict(int)
    reserved: dict[tuple[str, str], int] = defaultdict(int)
    for entry in entries:
        if entry["status"] == "pending":
            for line in entry["lines"]:
                reserved[line["account_id"], line["direction"]] += line["amount"]
    for account in accounts:
        posted, pending, available = (account["balances"][name] for name in ("posted", "pending", "available"))
        sign = 1 if account["normal_balance"] == "debit" else -1
        for name, balance in account["balances"].items():
            sums[account["currency"], name] += balance["debits"] - balance["credits"] if name != "available" else 0
            assert balance["debits"] >= 0, account
            assert balance["credits"] >= 0, account
            assert balance["amount"] == sign * (balance["debits"] - balance["credits"]), account
        for side in ("debit", "credit"):
            assert pending[f"{side}s"] - posted[f"{side}s"] == reserved[account["id"], side], account
        outgoing = reserved[account["id"], "credit" if sign > 0 else "debit"]
        assert posted["amount"] - available["amount"] == outgoing, account
        assert account["allow_negative"] or available["amount"] >= 0, account
    assert not any(sums.values()), sums
    await check_holds(site, {entry["id"]: entry for entry in entries})
    told = rebuilt(await events(site))
    for account in accounts:
        shown = [account["balances"]["posted"][side] for side in SIDES]
        assert told[account["id"]] == shown, account


async def check_holds(site: SiteClient, entries: dict[str, Any]) -> None:
    """Check that what open holds hold is what their pending entries reserve, and that the others hold nothing."""
    for hold in await listed(site, "/v1/holds", at=1):
        entry = entries[hold["id"]]
        assert (hold["status"] == "open") == (entry["status"] == "pending"), hold
        reserved = {line["id"]: line["amount"] for line in entry["lines"]} if hold["status"] == "open" else {}
        for line in hold["lines"]:
            assert line["held"] == reserved.get(line["id"], 0), hold
            assert line["captured"] + line["held"] <= line["amount"], hold


async def events(site: SiteClient, *, at: int = 1) -> list[Any]:
    """Return the whole feed, decoded."""
    found: list[Any] = []
    after = ""
    while True:
        page = await site.ask("GET", f"/v1/events?limit=1000{after}", at=at)
        found += page["data"]
        if not page["has_more"]:
            return found
        after = f"&after={page['next_cursor']}"


def rebuilt(told: list[Any]) -> dict[str, list[int]]:
    """Return the posted debits and credits of every account as the events tell them; the feed has no gap."""
    assert [each["sequence"] for each in told] == list(range(1, len(told) + 1))
    latest = {each["data"]["id"]: each["data"] for each in told if each["type"] in _STATE}
    totals: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for entry in latest.values():
        for line in entry["lines"] if entry["status"] == "posted" else ():
            totals[line["account_id"]][line["direction"] == "credit"] += line["amount"]
    return totals
