"""Endpoints in the portal's pages: every option by the form, what is wrong with one and what helps, every signature verified."""

from __future__ import annotations

from typing import Any, Final

from playwright.async_api import Page, expect

from tests.browser import Window
from tests.fakes.receiver import GONE, OK, SERVER_ERROR, Receiver
from tests.sandbox import Sandbox

_FORMS: Final[dict[str, dict[str, Any]]] = {
    "plain": {},
    "public": {"signature": "v1a"},
    "thin": {"payload": "thin", "compression": "gzip"},
    "members": {"payload": ["/data/id"], "headers": {"authorization": "Bearer x"}},
    "structured": {"format": "cloudevents", "signature": "v1a", "compression": "gzip"},
    "binary": {"format": "cloudevents_binary"},
    "batch": {"max_batch": 5, "max_wait_ms": 300, "compression": "gzip"},
}
_SAID: Final = {
    "plain": "(the event)",
    "public": "(the event)",
    "thin": "(the event, thin, gzip)",
    "members": "(the event, chosen members)",
    "structured": "(the event, as CloudEvents, gzip)",
    "binary": "(the event, as a binary CloudEvent)",
    "batch": "(a batch of 2 events, gzip)",
}


_FILLED: Final = {
    "other_types": "account.created", "description": "All of it", "max_in_flight": "3",
    "ordering_key": "metadata.customer", "rate_limit": "50", "timeout_s": "7", "retry_schedule": "0, 5 60",
    "disable_after_s": "7200", "filter": '{"path": "/data/status", "equals": "posted"}', "members": "/data/id\n/data/status",
    "max_batch": "4", "max_wait_ms": "50", "headers": "X-Team: payments\nAuthorization: Bearer a:b",
    "metadata": '{"team": "payments"}',
}  # fmt: skip
_CHOSEN: Final = {
    "ordering": "ordered_by", "on_exhausted": "skip_and_flag", "payload": "members", "format": "cloudevents_binary",
    "compression": "gzip", "signature": "v1a",
}  # fmt: skip
_SHOWN: Final[dict[str, Any]] = {
    "event_types": ["entry.*", "account.created"], "description": "All of it", "metadata": {"team": "payments"},
    "headers": {"X-Team": "***", "Authorization": "***"}, "timeout_s": 7, "max_in_flight": 3,
    "retry_schedule": [0, 5, 60], "ordering": "ordered_by", "ordering_key": "metadata.customer",
    "on_exhausted": "skip_and_flag", "rate_limit": 50, "disable_after_s": 7200,
    "filter": {"path": "/data/status", "equals": "posted"}, "payload": ["/data/id", "/data/status"],
    "format": "cloudevents", "compression": "gzip", "max_batch": 4, "max_wait_ms": 50,
}  # fmt: skip


async def verify(page: Page, secret: str | None) -> None:
    """Press the button of the newest attempt, with a secret or with the endpoint's public key."""
    attempt = page.locator("#attempts .attempt").first
    if secret is None:
        await attempt.get_by_role("button", name="Use the endpoint's public key").click()
        return
    await attempt.locator(".verify input").fill(secret)
    await attempt.get_by_role("button", name="Verify").click()


async def open_newest(sandbox: Sandbox, seen: Window, endpoint_id: str) -> None:
    """Open the endpoint's newest delivery of an entry."""
    found = await sandbox.ask("GET", f"/v1/deliveries?endpoint_id={endpoint_id}&event_type=entry.posted")
    await seen.open(f"/deliveries/{found['data'][0]['id']}")


async def test_every_form_of_a_request_is_verified_over_the_bytes_that_were_sent(
    sandbox: Sandbox, seen: Window, receiver: Receiver
) -> None:
    """Secret or public key, whole or thin, packed, as CloudEvents, in a batch: right is said, and over what; and so is wrong."""
    made: dict[str, dict[str, Any]] = {}
    for name, options in _FORMS.items():
        wanted = {"url": receiver.url(f"/{name}"), "event_types": ["entry.posted"], **options}
        made[name] = await sandbox.ask("POST", "/v1/webhook_endpoints", wanted)
    await sandbox.ask("POST", "/v1/entries/batch", {"entries": [sandbox.entry(), sandbox.entry()]})
    for name in _FORMS:
        await receiver.wait_for_count(1 if name == "batch" else 2, f"/{name}", timeout_s=30)
    output = seen.page.locator("#attempts .attempt output").first
    for name, endpoint in made.items():
        # What the endpoint is sent from now on says nothing about what it was sent.
        change = {"payload": ["/data/description"], "format": None, "compression": None, "max_batch": None}
        await sandbox.ask("PATCH", f"/v1/webhook_endpoints/{endpoint['id']}", {**change, "max_wait_ms": None})
        await open_newest(sandbox, seen, endpoint["id"])
        await verify(seen.page, endpoint["secret"])
        await expect(output).to_have_class("good")
        await expect(output).to_contain_text("number 1 of 1")
        await expect(output).to_contain_text(_SAID[name])
        body = receiver.at(f"/{name}")[-1].body
        await expect(output).to_contain_text(f"{len(body)} bytes")
        wrong = made["thin" if name == "plain" else "plain"]["secret"]
        await verify(seen.page, wrong)
        if "signature" in _FORMS[name]:
            await expect(output).to_have_class("cannot")
            await expect(output).to_contain_text("the request is signed with v1a")
        else:
            await expect(output).to_have_class("bad")
            await expect(output).to_contain_text("not made with this one over")
    await seen.page.locator("#attempts details.as-sent summary").first.click()
    await expect(seen.page.locator("#attempts [data-said]").first).to_contain_text("a batch of 2 events, gzip")
    await expect(seen.page.locator("#attempts [data-text]").first).to_contain_text('"sequence"')


async def test_during_a_rotation_both_keys_are_right_and_it_is_said_which(
    sandbox: Sandbox, seen: Window, receiver: Receiver
) -> None:
    """The new key signs first, the old one beside it; what is no key, or a private one, is said to be that."""
    endpoint = await sandbox.ask(
        "POST", "/v1/webhook_endpoints", {"url": receiver.url("/hook"), "event_types": ["entry.posted"]}
    )
    page = seen.page
    await seen.open(f"/endpoints/{endpoint['id']}")
    page.on("dialog", lambda dialog: dialog.accept())
    await page.select_option('.rotate [name="signature"]', "v1a")
    await page.get_by_role("button", name="Rotate").click()
    public = await page.locator("[data-public-key]").inner_text()
    assert public.startswith("whpk_")
    await expect(page.locator(".once")).to_contain_text("The old key signs beside it until")
    await sandbox.ask("POST", "/v1/entries", sandbox.entry())
    await receiver.wait_for_count(1, "/hook")
    await open_newest(sandbox, seen, endpoint["id"])
    output = page.locator("#attempts output").first
    for key, kind, said in (
        (endpoint["secret"], "good", "v1, number 2 of 2"),
        (public, "good", "v1a, number 1 of 2"),
        (None, "good", "v1a, number 1 of 2"),
        (public[:-6] + "AAAAA=", "bad", "of another public key: the one v1a signature"),
        ("whsec_AAAA", "bad", "of another secret: the one v1 signature"),
        ("whsec_!", "cannot", "this is no secret"),
        ("whpk_AAAA", "cannot", "this is no public key"),
        ("whsk_AAAA", "cannot", "this is a private key"),
        ("", "cannot", "give the secret"),
    ):
        await verify(page, key)
        await expect(output).to_contain_text(said)
        await expect(output).to_have_class(kind)
    await seen.open(f"/endpoints/{endpoint['id']}")
    await expect(page.locator("#keys + table [data-public-key]")).to_have_text(public)
    await expect(page.locator("#keys + table tbody tr")).to_have_count(2)


async def test_an_endpoint_has_every_option_by_the_form(sandbox: Sandbox, seen: Window, receiver: Receiver) -> None:
    """Each is what the API then shows; what cannot be is refused by name, with everything that was filled in still there."""
    page = seen.page
    await seen.open("/endpoints/new")
    for each in await page.locator("details.options summary").all():
        await each.click()
    filled = {"url": receiver.url("/all"), **_FILLED}
    for name, value in filled.items():
        await page.fill(f'[name="{name}"]', value)
    for name, value in _CHOSEN.items():
        await page.select_option(f'[name="{name}"]', value)
    await page.uncheck('[name="event_types"][value="*"]')
    await page.check('[name="event_types"][value="entry.*"]')
    await page.get_by_role("button", name="Add and test").click()
    await expect(page.locator(".faults")).to_contain_text("format: ")
    # A browser's console calls every page with a status of 4xx an error.
    assert len(seen.errors) == 1
    seen.errors.clear()
    for name, value in (filled | _CHOSEN).items():
        await expect(page.locator(f'[name="{name}"]')).to_have_value(value)
    await page.select_option('[name="format"]', "cloudevents")
    await page.get_by_role("button", name="Add and test").click()
    await expect(page.locator("#test-answer .state")).to_have_text("delivered")
    await page.get_by_role("link", name="To the endpoint").click()
    [shown] = (await sandbox.ask("GET", "/v1/webhook_endpoints"))["data"]
    assert {name: shown[name] for name in _SHOWN} == _SHOWN
    # Saved as it is shown, nothing changes: neither an option nor a header that is not shown.
    await page.get_by_role("button", name="Save").click()
    await page.wait_for_url(f"**/endpoints/{shown['id']}")
    again = await sandbox.ask("GET", f"/v1/webhook_endpoints/{shown['id']}")
    assert {name: again[name] for name in _SHOWN} == _SHOWN
    for name in ("filter", "retry_schedule", "rate_limit", "ordering_key"):
        await page.fill(f'[name="{name}"]', "")
    await page.select_option('[name="ordering"]', "parallel")
    await page.locator("details.options", has=page.locator('[name="change_headers"]')).evaluate(
        "each => each.open = true"
    )
    await page.check('[name="change_headers"]')
    await page.get_by_role("button", name="Save").click()
    await expect(page.locator('[name="filter"]')).to_have_value("")
    bare = await sandbox.ask("GET", f"/v1/webhook_endpoints/{shown['id']}")
    assert (bare["filter"], bare["rate_limit"], bare["ordering"], bare["ordering_key"]) == (
        None,
        None,
        "parallel",
        None,
    )
    assert (bare["headers"], bare["retry_schedule"]) == ({}, [0, 3600])


async def test_a_disabled_endpoint_is_enabled_by_a_ping_whose_answer_is_shown(
    sandbox: Sandbox, seen: Window, receiver: Receiver
) -> None:
    """410 disables it and the page says so; a ping that fails leaves it so, one that passes makes it active."""
    endpoint = await sandbox.ask(
        "POST", "/v1/webhook_endpoints", {"url": receiver.url("/gone"), "event_types": ["entry.posted"]}
    )
    receiver.script("/gone", GONE, SERVER_ERROR, OK)
    await sandbox.ask("POST", "/v1/entries", sandbox.entry())
    await receiver.wait_for_count(1, "/gone")
    page = seen.page
    state = page.locator("h1 + .row .state, h1 ~ .row .state").first
    while True:
        await seen.open(f"/endpoints/{endpoint['id']}")
        if await state.inner_text() == "disabled":
            break
    await expect(page.locator(".troubles")).to_contain_text("it answered 410 Gone")
    await sandbox.ask("POST", "/v1/entries", sandbox.entry())
    await seen.open("/deliveries?status=skipped")
    await page.locator("#rows .row-link").first.click()
    await expect(page.locator("#attempts .trouble")).to_contain_text("Replay this when it is enabled again")
    await page.get_by_role("link", name="Enable the endpoint to replay").click()
    await page.get_by_role("button", name="Enable").click()
    await expect(page.locator(".troubles")).to_contain_text("the ping that was to enable it failed")
    await expect(page.locator("#test-answer .s5")).to_have_text("500")
    await page.get_by_role("button", name="Enable").click()
    await expect(state).to_have_text("active")
    await expect(page.locator("#test-answer .s2")).to_have_text("200")
    await page.get_by_role("button", name="Replay what it missed").click()
    missed = int(await page.locator("[data-count]").inner_text())
    assert missed >= 1
    await page.get_by_role("button", name=f"Replay {missed}").click()
    await expect(page.locator("[data-delivered]")).to_have_text(str(missed))


async def test_what_holds_up_an_order_is_shown_and_skipped(sandbox: Sandbox, seen: Window, receiver: Receiver) -> None:
    """The one that was given up stands on the endpoint's page; once it is skipped, those behind it go."""
    options = {"ordering": "ordered", "retry_schedule": [0]}
    endpoint = await sandbox.ask(
        "POST", "/v1/webhook_endpoints", {"url": receiver.url("/order"), "event_types": ["entry.posted"], **options}
    )
    receiver.script("/order", SERVER_ERROR, OK)
    await sandbox.ask("POST", "/v1/entries/batch", {"entries": [sandbox.entry()] * 3})
    await receiver.wait_for_count(1, "/order")
    page = seen.page
    page.on("dialog", lambda dialog: dialog.accept())
    blocked = page.locator(".trouble", has_text="The order is blocked")
    while True:
        await seen.open(f"/endpoints/{endpoint['id']}")
        if await blocked.count():
            break
    await expect(blocked).to_contain_text("entry.posted, number 1")
    await seen.open(f"/deliveries?endpoint_id={endpoint['id']}&status=pending")
    await expect(page.locator("#rows tr")).to_have_count(2)
    await page.locator("#rows .row-link").first.click()
    await expect(page.locator("#attempts")).to_contain_text("waits for order")
    await page.get_by_role("link", name="what it waits for").click()
    await blocked.get_by_role("button", name="Skip").click()
    await page.wait_for_url("**/deliveries/*")
    await expect(page.locator("#attempts .state").first).to_have_text("skipped")
    await receiver.wait_for_count(3, "/order")
    await seen.open(f"/endpoints/{endpoint['id']}")
    await expect(blocked).to_have_count(0)
