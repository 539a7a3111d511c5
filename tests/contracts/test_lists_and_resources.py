"""Every list and every resource speaks alike: pages, orders, filters, versions. The next one cannot forget; who differs says why."""

from __future__ import annotations

from typing import Final

import msgspec
import pytest

from gateway.query import CURSOR, LIMIT, METADATA, ORDER
from gateway.route import Route
from gateway.routes import ROUTES
from openapi.build import build
from openapi.operations import operation_id

LISTS: Final = [route for route in ROUTES if route.page]
READS: Final = [route for route in ROUTES if route.method == "GET" and route.answer is not None and not route.page]
CHANGES: Final = [route for route in ROUTES if route.method != "GET" and route.path.startswith("/v1/")]

NO_PAGES: Final = {
    "/v1/deliveries/{id}/attempts": "as many as the retry schedule has, and the replays of one delivery",
    "/v1/inspectors": "a site has ten at most",
}
OWN_ORDER: Final = {
    "/v1/events": "the feed has one order, and is followed with `after`",
    "/v1/inspectors/{id}/requests": "they are followed with `after`",
    "/v1/deliveries": "the newest first, or with `after` in the endpoint's order",
    "/v1/currencies": "by code",
    "/v1/countries": "by code",
    "/v1/event_types": "by name",
}
NO_METADATA: Final = {
    "/v1/accounts/{id}/lines": "a line's metadata says what its entry's does, and is not searched",
    "/v1/lines": "a line's metadata says what its entry's does, and is not searched",
    "/v1/account_categories/{id}/accounts": "`/v1/accounts?account_category_id=` is searched by metadata",
    "/v1/account_categories/{id}/account_categories": "`/v1/account_categories?parent_account_category_id=` is",
    "/v1/event_handlers/{id}/versions": "versions of one handler",
}
REPORTS: Final = {
    "/v1/accounts/{id}/statement": "pages of a report over a time, not the account",
}
UNVERSIONED: Final = {
    "/v1/webhook_endpoints/{id}/test": "it changes nothing of the endpoint",
}


def fields_of(route: Route) -> set[str]:
    """Return the names of what an operation answers with."""
    return {each.encode_name for each in msgspec.structs.fields(route.answer)}


def test_exceptions_are_of_routes_that_there_are() -> None:
    """An exception that outlives its route would let another one in."""
    paths = {route.path for route in ROUTES}
    for exceptions in (NO_PAGES, OWN_ORDER, NO_METADATA, REPORTS, UNVERSIONED):
        assert set(exceptions) <= paths
        assert all(exceptions.values())


@pytest.mark.parametrize("route", LISTS, ids=operation_id)
def test_a_list_is_in_pages_and_says_where_to_follow_the_feed_from(route: Route) -> None:
    """A limit, a cursor that its pages give, the feed's cursor; its resources can be searched by metadata, in either order."""
    names = {each.name for each in route.query}
    assert route.feed_cursor
    if route.path in NO_PAGES:
        assert not names
        return
    assert LIMIT.name in names
    assert names & {CURSOR.name, "after"}
    choices = {choice for each in route.query if each.name == ORDER.name for choice in each.choices}
    assert ({CURSOR, LIMIT} <= set(route.query) and set(ORDER.choices) <= choices) or route.path in OWN_ORDER
    assert METADATA in route.query or "metadata" not in fields_of(route) or route.path in NO_METADATA
    made = {"created_at"} <= fields_of(route) and route.path.count("/") == 2
    assert not made or "created_at" in names or route.path in OWN_ORDER or route.scope != "ledger.read"


@pytest.mark.parametrize("route", READS, ids=operation_id)
def test_a_resource_with_a_version_has_it_as_its_etag(route: Route) -> None:
    """And what belongs to the books says where to follow the feed from."""
    assert route.etag or "lock_version" not in fields_of(route) or route.path in REPORTS
    if route.scope == "ledger.read" and "{" in route.path:
        assert route.feed_cursor or route.path == "/v1/countries/{country}"


@pytest.mark.parametrize("route", CHANGES, ids=operation_id)
def test_a_change_of_a_versioned_resource_takes_if_match(route: Route) -> None:
    """Whatever is done to something that can be read with a version can be done to that version only."""
    versioned = [
        read.path
        for read in READS
        if "lock_version" in fields_of(read) and (route.path == read.path or route.path.startswith(f"{read.path}/"))
    ]
    assert route.conditional == bool(versioned) or route.path in UNVERSIONED


def test_every_read_says_that_it_may_be_unchanged() -> None:
    """304 and If-None-Match stand in the description of each, but of what shows more than its version."""
    paths = build()["paths"]
    for route in (*LISTS, *READS):
        operation = paths[route.path]["get"]
        given = {each["$ref"].rpartition("/")[2] for each in operation["parameters"] if "$ref" in each}
        assert ("304" in operation["responses"], "IfNoneMatch" in given) == (not route.derived, not route.derived)
        assert "ETag" in operation["responses"]["200"]["headers"]
