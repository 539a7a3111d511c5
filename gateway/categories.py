"""Categories of accounts over HTTP: opened, changed, filled with accounts and with each other, listed."""

from __future__ import annotations

from starlette.responses import Response

from engine import category_queries
from engine.category_commands import LinkCategory, PlaceAccount
from engine.history import Moment
from gateway import category_bodies, lists, wire
from gateway.call import Call
from gateway.ledgers import created, submit
from gateway.query import Asked

_CATEGORY = "account category"


async def create_category(call: Call, _asked: Asked) -> Response:
    """Open a category of accounts in one currency."""
    document = await call.document()
    command = wire.decode(document, category_bodies.AccountCategoryCreate).command()
    return await created(call, command, call.idempotency(document), "/v1/account_categories/")


async def list_categories(call: Call, asked: Asked) -> Response:
    """List categories with what their accounts add up to, the newest first."""
    wanted = asked.selection("ledger_id", "currency", "external_id")
    parent_id, account_id = asked.get("parent_account_category_id"), asked.get("account_id")
    query = category_queries.list_categories
    return lists.page(call, await call.services.engine.ask(call.site, query, wanted, parent_id, account_id))


async def get_category(call: Call, _asked: Asked) -> Response:
    """Return one category with what its accounts add up to, each counted once."""
    found = await call.services.engine.ask(call.site, category_queries.category, call.path_id(_CATEGORY))
    return lists.one(found, found.value.lock_version)


async def get_category_balance(call: Call, asked: Asked) -> Response:
    """Return what a category's accounts of today add up to, now or at a moment of the past or of the future."""
    moment = Moment(as_of=asked.get("as_of"), known_at=asked.get("known_at"))
    query, category_id = category_queries.category_balance, call.path_id(_CATEGORY)
    found = await call.services.engine.ask(call.site, query, category_id, moment)
    return lists.one(found, found.value.lock_version)


async def change_category(call: Call, _asked: Asked) -> Response:
    """Change a category's name, description, limits or metadata."""
    document = await call.document()
    change = wire.decode(document, category_bodies.AccountCategoryChange)
    return await submit(call, change.command(call.path_id(_CATEGORY), call.if_match()), call.idempotency(document))


async def list_category_accounts(call: Call, asked: Asked) -> Response:
    """List the accounts that were put into a category itself, the newest account first."""
    query, category_id = category_queries.list_category_accounts, call.path_id(_CATEGORY)
    return lists.page(call, await call.services.engine.ask(call.site, query, category_id, asked.selection()))


async def add_account(call: Call, _asked: Asked) -> Response:
    """Put an account into a category; doing it again changes nothing."""
    return await _place_account(call, inside=True)


async def remove_account(call: Call, _asked: Asked) -> Response:
    """Take an account out of a category; doing it again changes nothing."""
    return await _place_account(call, inside=False)


async def list_subcategories(call: Call, asked: Asked) -> Response:
    """List the categories that were put into a category itself, the newest first."""
    query, category_id = category_queries.list_subcategories, call.path_id(_CATEGORY)
    return lists.page(call, await call.services.engine.ask(call.site, query, category_id, asked.selection()))


async def add_subcategory(call: Call, _asked: Asked) -> Response:
    """Put a category with all that is in it into another; what would close a circle is refused."""
    return await _link_category(call, inside=True)


async def remove_subcategory(call: Call, _asked: Asked) -> Response:
    """Take a category out of another; doing it again changes nothing."""
    return await _link_category(call, inside=False)


async def _place_account(call: Call, *, inside: bool) -> Response:
    await call.empty_document()
    category_id, account_id = call.path_id(_CATEGORY), call.path_id("account", "member_id")
    command = PlaceAccount(category_id=category_id, account_id=account_id, inside=inside, if_match=call.if_match())
    return await submit(call, command, None)


async def _link_category(call: Call, *, inside: bool) -> Response:
    await call.empty_document()
    category_id, child_id = call.path_id(_CATEGORY), call.path_id(_CATEGORY, "member_id")
    command = LinkCategory(category_id=category_id, child_id=child_id, inside=inside, if_match=call.if_match())
    return await submit(call, command, None)
