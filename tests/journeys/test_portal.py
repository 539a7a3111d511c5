"""The portal in a real browser, with a real receiver that fails and comes back, and a gateway that dies."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import Any, Final

import pytest
from playwright.async_api import Browser, expect

from tests.browser import SIZES, Window, window
from tests.fakes.receiver import OK, SERVER_ERROR, Receiver, Reply
from tests.processes import until_ready
from tests.sandbox import Sandbox

MANY: Final = 1000
_PAGES: Final = (
    "",
    "/deliveries",
    "/replays",
    "/endpoints",
    "/endpoints/new",
    "/events",
    "/console",
    "/books",
    "/accounts",
    "/entries",
    "/holds",
    "/inspectors",
    "/keys",
    "/explorer",
    "/sessions",
)


async def test_a_failure_appears_is_understood_and_is_replayed(
    sandbox: Sandbox, seen: Window, receiver: Receiver, pytestconfig: pytest.Config, browser: Browser
) -> None:
    """Add an endpoint, see its test answered; stop the receiver, see the failure; start it, press Replay, see it delivered."""
    page = seen.page
    secret = await _add_endpoint(seen, receiver.url("/hook"))
    await expect(page.locator("#test-answer .state")).to_have_text("delivered")
    await seen.open("/deliveries")
    await expect(page.locator("[data-live].on")).to_be_visible()
    await receiver.stop()
    await sandbox.ask("POST", "/v1/entries", sandbox.entry(), correlation_id="journey-1")
    row = page.locator("#rows tr", has=page.get_by_text("entry.posted")).first
    await expect(row.locator(".state")).to_have_text("retrying")
    await expect(page.locator("#rows tr.fresh")).to_have_count(1)
    await page.keyboard.press("j")
    await page.keyboard.press("Enter")
    await expect(page.locator("#attempts .state").first).to_have_text("retrying")
    await expect(page.locator("#attempt-1 .s0").first).to_be_visible()
    for part in ("POST", "/v1/entries", "201", "journey-1", "25.00 USD"):
        await expect(page.locator(".timeline").first).to_contain_text(part)
    await expect(page.locator("#attempts .trouble")).to_contain_text("does the receiver run")
    await receiver.start()
    await page.get_by_role("button", name="Replay").click()
    await expect(page.locator("#attempts > .row .state").first).to_have_text("delivered")
    await expect(page.locator("#attempt-2")).to_contain_text("replay")
    await expect(page.locator("#tail .good").last).to_contain_text("Delivered")
    await page.locator("#attempt-2 .verify input").fill(secret)
    await page.locator("#attempt-2 .verify button").click()
    await expect(page.locator("#attempt-2 output.good")).to_contain_text("v1, number 1 of 1, made with this secret")
    await page.locator("#attempt-2 .verify input").fill("whsec_AAAA")
    await page.locator("#attempt-2 .verify button").click()
    await expect(page.locator("#attempt-2 output.bad")).to_contain_text("of another secret")
    sent = [each for each in receiver.at("/hook") if b"entry.posted" in each.body]
    assert len({each.headers["webhook-id"] for each in sent}) == 1
    await _pictures(sandbox, browser, page.url.removeprefix(f"{seen.base_url}/portal"), receiver, pytestconfig)


async def test_a_thousand_are_replayed_by_a_filter_after_a_count(
    sandbox: Sandbox, seen: Window, receiver: Receiver
) -> None:
    """What failed is one click from home: counted, confirmed, followed to its end."""
    page = seen.page
    endpoint = {"url": receiver.url("/many"), "event_types": ["entry.posted"], "retry_schedule": [0]}
    # Every second one fails: if all did, the circuit would open and spare the rest.
    receiver.script("/many", *([SERVER_ERROR, OK] * MANY), OK)
    await sandbox.ask("POST", "/v1/webhook_endpoints", endpoint)
    for _ in range(2 * MANY // 100):
        await sandbox.ask("POST", "/v1/entries/batch", {"entries": [sandbox.entry(1)] * 100})
    await receiver.wait_for_count(2 * MANY, "/many", timeout_s=120)
    await seen.open("/deliveries?status=exhausted")
    await expect(page.locator("#rows tr")).to_have_count(50)
    async with asyncio.timeout(60):
        while True:
            await seen.open("")
            await page.get_by_role("button", name="Replay what failed").click()
            if await page.locator("[data-count]").inner_text() == str(MANY):
                break
            await asyncio.sleep(0.2)
    await page.get_by_role("button", name=f"Replay {MANY}").click()
    await expect(page.locator("#progress")).to_have_attribute("data-status", "completed", timeout=120_000)
    await expect(page.locator("[data-delivered]")).to_have_text(str(MANY))
    ids = [each.headers["webhook-id"] for each in receiver.at("/many")]
    assert (len(set(ids)), len(ids)) == (2 * MANY, 3 * MANY)
    await seen.open("/deliveries?status=exhausted")
    await expect(page.locator("#rows tr")).to_have_count(0)


async def test_a_live_view_goes_on_without_a_gap_when_the_gateway_is_killed(sandbox: Sandbox, browser: Browser) -> None:
    """The page says that it is cut, and afterwards shows every event once, in the feed's order."""
    async with window(browser, sandbox.credentials.base_url) as seen:
        await sandbox.sign_in(seen)
        page = seen.page
        await seen.open("/events")
        await expect(page.locator("[data-live].on")).to_be_visible()
        for _ in range(5):
            await sandbox.ask("POST", "/v1/entries", sandbox.entry())
        await expect(page.locator('#rows tr[data-sequence="8"]')).to_be_visible()
        sandbox.program.kill()
        await expect(page.locator("[data-live].off")).to_contain_text("cut")
        sandbox.program.start()
        await until_ready(sandbox.http, sandbox.credentials.base_url, sandbox.program)
        for _ in range(120):
            await sandbox.ask("POST", "/v1/entries", sandbox.entry())
        await expect(page.locator('#rows tr[data-sequence="128"]')).to_be_visible()
        await expect(page.locator("[data-live].on")).to_be_visible()
        shown = await page.locator("#rows tr").evaluate_all("rows => rows.map(row => Number(row.dataset.sequence))")
        assert shown == list(range(128, 0, -1))
        assert seen.elsewhere == []


async def test_a_cut_without_a_word_is_told_and_healed(sandbox: Sandbox, browser: Browser, receiver: Receiver) -> None:
    """A gateway that is frozen closes nothing: pages notice by themselves, say from when they are, and go on without a gap."""
    hook = {"url": receiver.url("/hook"), "event_types": ["entry.*"]}
    await sandbox.ask("POST", "/v1/webhook_endpoints", hook)
    await sandbox.ask("POST", "/v1/entries", sandbox.entry())
    await receiver.wait_for_count(1, "/hook")
    delivery = (await sandbox.ask("GET", "/v1/deliveries"))["data"][0]
    async with window(browser, sandbox.credentials.base_url) as seen:
        await sandbox.sign_in(seen)
        feed = seen.page
        await seen.open("/events")
        await expect(feed.locator("[data-live].on")).to_be_visible()
        other = await feed.context.new_page()
        await other.goto(f"{seen.base_url}/portal/deliveries/{delivery['id']}")
        await expect(other.locator("#attempt-1")).to_be_visible()
        sandbox.program.send(signal.SIGSTOP)
        try:
            await expect(feed.locator("[data-live].off")).to_contain_text("Nothing is heard")
            await expect(other.locator("#stale")).to_contain_text("this is as it was at")
        finally:
            sandbox.program.send(signal.SIGCONT)
        for _ in range(3):
            await sandbox.ask("POST", "/v1/entries", sandbox.entry())
        await expect(feed.locator('#rows tr[data-sequence="7"]')).to_be_visible()
        await expect(feed.locator("[data-live].on")).to_be_visible()
        await expect(other.locator("#stale")).to_be_hidden()
        shown = await feed.locator("#rows tr").evaluate_all("rows => rows.map(row => Number(row.dataset.sequence))")
        assert shown == list(range(7, 0, -1))
        await feed.context.clear_cookies()
        await expect(other.locator("#stale a")).to_have_text("Sign in again")


@pytest.mark.parametrize(
    ("size", "scheme"), [("desk", "light"), ("desk", "dark"), ("phone", "light"), ("phone", "dark")]
)
async def test_every_page_is_fit_for_everybody(
    sandbox: Sandbox, browser: Browser, receiver: Receiver, size: str, scheme: Any
) -> None:
    """axe-core finds nothing serious, nothing is wider than the window, no error is in the console, nothing comes from elsewhere."""
    hook = await sandbox.ask("POST", "/v1/webhook_endpoints", {"url": receiver.url("/hook"), "event_types": ["*"]})
    receiver.script("/hook", Reply(status=500, body=b'{"why": "because"}'), OK)
    entry = await sandbox.ask("POST", "/v1/entries", sandbox.entry())
    await sandbox.ask("POST", "/v1/entries", sandbox.entry())
    await receiver.wait_for_count(2, "/hook")
    delivery = (await sandbox.ask("GET", "/v1/deliveries"))["data"][-1]
    replay = await sandbox.ask("POST", "/v1/replays", {"delivery_ids": [delivery["id"]]})
    inspector = await sandbox.ask("POST", "/v1/inspectors", {})
    ordered = {"ordering": "ordered", "retry_schedule": [0], "signature": "v1a", "event_types": ["*"]}
    receiver.script("/blocked", SERVER_ERROR)
    blocked = await sandbox.ask("POST", "/v1/webhook_endpoints", {"url": receiver.url("/blocked"), **ordered})
    await sandbox.ask("POST", "/v1/webhook_endpoints", {"url": inspector["url"], "event_types": ["*"]})
    await sandbox.ask("POST", "/v1/entries", sandbox.entry())
    await receiver.wait_for_count(1, "/blocked")
    pages = [
        *_PAGES,
        f"/endpoints/{blocked['id']}",
        f"/replays/{replay['id']}",
        f"/inspectors/{inspector['id']}",
        "/deliveries?status=skipped",
        f"/endpoints/{hook['id']}",
        f"/entries/{entry['id']}",
        f"/accounts/{sandbox.pair[0]}",
        f"/books/{entry['ledger_id']}",
        f"/deliveries/{delivery['id']}",
        f"/events/{delivery['event_id']}",
    ]
    async with window(browser, sandbox.credentials.base_url, size, scheme) as seen:
        await seen.open("/sign-in")
        wrong = {"/sign-in": await seen.accessibility()}
        await sandbox.sign_in(seen)
        for path in pages:
            await seen.open(path)
            await seen.unfold()
            wrong[path] = await seen.accessibility()
            if await seen.overflows():
                wrong[path].append("wider than the window")
        assert {path: found for path, found in wrong.items() if found} == {}
        assert (seen.errors, seen.elsewhere) == ([], [])


async def test_the_explorer_sends_with_a_token_made_on_a_click(sandbox: Sandbox, seen: Window) -> None:
    """A request without a token is refused, with one it is answered, and the token says how long it is good for."""
    page = seen.page
    await seen.open("/explorer")
    operation = page.locator("#list_ledgers")
    await operation.locator("summary").first.click()
    for box in await page.locator("[data-mint] input").all():
        await box.uncheck()
    await page.get_by_role("button", name="Make a token").click()
    await expect(page.locator("[data-minted]")).to_have_text("Choose at least one scope")
    await page.get_by_label("ledger.read").check()
    await page.get_by_role("button", name="Make a token").click()
    await expect(page.locator("[data-minted]")).to_contain_text("s: ledger.read")
    await operation.get_by_role("button", name="Send").click()
    await expect(operation.locator("[data-status]")).to_contain_text("200 in")
    await expect(operation.locator("[data-answer]")).to_contain_text("SendCash")


@pytest.mark.parametrize("over", ["sse", "ws"])
async def test_the_console_is_cut_and_goes_on_from_its_cursor(sandbox: Sandbox, seen: Window, over: str) -> None:
    """What was committed while it was cut is there after it connected again, each event once."""
    page = seen.page
    await seen.open("/console")
    await page.select_option('[name="over"]', over)
    await page.select_option('[name="from"]', "start")
    await page.get_by_role("button", name="Connect").click()
    await expect(page.locator("[data-console-sequence]")).to_have_text("3")
    await page.get_by_role("button", name="Cut").click()
    for _ in range(3):
        await sandbox.ask("POST", "/v1/entries", sandbox.entry())
    await page.get_by_role("button", name="Connect").click()
    await expect(page.locator("[data-console-sequence]")).to_have_text("6")
    await expect(page.locator("[data-console-count]")).to_have_text("6")


async def test_an_inspector_shows_what_arrives_and_fails_when_told(sandbox: Sandbox, seen: Window) -> None:
    """Made on a click, added as an endpoint, it shows the signed test event; told to answer 500, the delivery is retried."""
    page = seen.page
    await seen.open("/inspectors")
    await page.get_by_role("button", name="Make an inspector").click()
    await page.wait_for_url("**/inspectors/*")
    inspector = page.url.removeprefix(f"{seen.base_url}/portal")
    await page.get_by_role("link", name="Add it as an endpoint").click()
    await page.get_by_role("button", name="Add and test").click()
    secret = await page.locator("[data-secret]").inner_text()
    await expect(page.locator("#test-answer .state")).to_have_text("delivered")
    await seen.open(inspector)
    await expect(page.locator("[data-received]")).to_have_text("1")
    await page.locator(".verify input").fill(secret)
    await page.locator(".verify button").click()
    await expect(page.locator(".verify output.good")).to_contain_text("(as it arrived)")
    await page.select_option('[name="status"]', "500")
    await page.get_by_role("button", name="Answer so").click()
    await sandbox.ask("POST", "/v1/entries", sandbox.entry())
    await expect(page.locator("#arrived .status").first).to_have_text("500")
    await seen.open("/deliveries?status=retrying")
    await expect(page.locator("#rows tr")).to_have_count(1)


async def _add_endpoint(seen: Window, url: str) -> str:
    """Add an endpoint by the form and return the secret that is shown once."""
    page = seen.page
    await seen.open("/endpoints/new")
    await page.fill("#url", url)
    await page.get_by_role("button", name="Add and test").click()
    secret = await page.locator("[data-secret]").inner_text()
    assert secret.startswith("whsec_")
    return secret


async def _pictures(
    sandbox: Sandbox, browser: Browser, attempt: str, receiver: Receiver, config: pytest.Config
) -> None:
    """Take the README's pictures where a folder for them was named, of a site with something on it."""
    folder = config.getoption("screenshots")
    if folder is None:
        return
    receiver.script("/hook", *([OK] * 9), SERVER_ERROR, *([OK] * 14), SERVER_ERROR, OK)
    for number in range(40):
        await sandbox.ask("POST", "/v1/entries", sandbox.entry(1500 + 700 * (number * 7 % 11), f"Top up {number + 1}"))
    await receiver.wait_for_count(42, "/hook", timeout_s=60)
    pages = {"home": "", "deliveries": "/deliveries", "attempt": attempt, "account": f"/accounts/{sandbox.pair[0]}"}
    for size in SIZES:
        async with window(browser, sandbox.credentials.base_url, size) as seen:
            await sandbox.sign_in(seen)
            for name, path in pages.items():
                await seen.open(path)
                if name == "deliveries":
                    await expect(seen.page.locator("[data-live].on")).to_be_visible()
                if name == "account":
                    await expect(seen.page.locator(".plot canvas")).to_be_visible()
                await seen.page.screenshot(path=Path(folder) / f"{name}-{size}.png", animations="disabled")
