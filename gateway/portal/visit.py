"""A visit: one request of a person's browser, who they are, what their form says, and the services that answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import parse_qsl, urlencode

from msgspec import Struct
from starlette.datastructures import QueryParams
from starlette.requests import Request

from auth.people_store import Session
from auth.principal import Principal
from auth.scopes import ALL_SCOPES
from auth.sessions import SignedIn
from engine.databases import Site
from engine.errors import NotFound
from engine.ids import is_id
from gateway import query, wire
from gateway.call import Services, Trace, site_of
from gateway.problems import Problem
from gateway.query import Asked, Parameter

FORM_BYTES_MAX: Final = 128 * 1024
_FIELDS_MAX: Final = 1200


class Form(Struct, frozen=True, kw_only=True):
    """The fields of a form, each with all of its values."""

    fields: Mapping[str, Sequence[str]] = {}

    def text(self, name: str) -> str:
        """Return a field without the spaces around it; an empty text where it was not sent."""
        return self.fields.get(name, ("",))[0].strip()

    def texts(self, name: str) -> list[str]:
        """Return every value of a field."""
        return list(self.fields.get(name, ()))


class Visit(Struct, frozen=True, kw_only=True):
    """One request; public pages have no caller."""

    request: Request
    services: Services
    trace: Trace
    caller: SignedIn | None
    form: Form
    path: Mapping[str, str]

    @property
    def signed_in(self) -> SignedIn:
        """Return who visits; only pages behind the door ask."""
        if self.caller is None:
            raise RuntimeError("a public page asked who visits")
        return self.caller

    @property
    def session(self) -> Session:
        """Return the visitor's session."""
        return self.signed_in.session

    @property
    def site(self) -> Site:
        """Return the site that the session looks at: nothing in the request says it."""
        return site_of(self.principal)

    @property
    def sandbox(self) -> bool:
        """Tell whether the session looks at a sandbox."""
        return self.session.site.environment == "sandbox"

    @property
    def principal(self) -> Principal:
        """Return the visitor as a caller of the site: scopes do not apply to people."""
        session = self.session
        return Principal(
            kind="administrator",
            id=session.email[:64],
            site=session.site,
            scopes=ALL_SCOPES,
            expires_at=session.expires_at,
            credential_id=session.id,
        )

    @property
    def now_us(self) -> int:
        """Return the present instant."""
        return self.services.clock.now_us()

    def path_id(self, resource: str, name: str = "id") -> str:
        """Return an id in the path; what has not the form of an id names nothing."""
        value = self.path[name]
        if not is_id(value):
            raise NotFound(resource, value[:64])
        return value

    def asked(self, *parameters: Parameter) -> Asked:
        """Return the query's parameters; a field of a filter that was left empty was not given."""
        given = [(name, value) for name, value in self.request.query_params.multi_items() if value.strip()]
        return query.read(QueryParams(given), parameters)

    def same_page_with(self, **changed: str | None) -> str:
        """Return the address of this page with some parameters changed; None takes one away."""
        given = self.request.query_params.multi_items()
        kept = [(name, value) for name, value in given if name not in changed and value.strip()]
        added = [(name, value) for name, value in changed.items() if value is not None]
        text = urlencode([*kept, *added])
        return f"{self.request.scope['path']}?{text}" if text else str(self.request.scope["path"])


async def read_form(request: Request) -> Form:
    """Read a form; raises the problem of a body that is none."""
    body = await wire.read_body(request, FORM_BYTES_MAX)
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if body and media_type != "application/x-www-form-urlencoded":
        raise Problem(code="unsupported_media_type", detail="The portal takes forms.")
    try:
        pairs = parse_qsl(body.decode(), keep_blank_values=True, errors="strict", max_num_fields=_FIELDS_MAX)
    except ValueError:
        raise Problem(code="request.malformed", detail="This is no form.") from None
    fields: dict[str, list[str]] = {}
    for name, value in pairs:
        if "\x00" in value:
            raise Problem(code="request.malformed", detail="A field holds NUL.")
        fields.setdefault(name, []).append(value)
    return Form(fields=fields)
