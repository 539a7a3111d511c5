"""Exchange rates over HTTP."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct
from starlette.responses import Response

from engine import fx_queries
from engine.errors import Fault
from engine.fx_commands import CreateFxRate
from gateway import lists, wire
from gateway.bodies import Currency, Instant, Metadata, Name
from gateway.call import Call
from gateway.problems import invalid
from gateway.query import Asked

Rate = Annotated[
    str,
    Meta(
        pattern=r"^(?!0+(\.0+)?$)(0|[1-9][0-9]{0,17})(\.[0-9]{1,18})?$(?!\n)",
        description="What one unit of the base currency is in the quote currency: a decimal above zero, without an exponent, with at "
        "most 18 digits before the point and 18 after it.",
    ),
]


class FxRateCreate(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An exchange rate, for ever where no end is given; a rate never changes."""

    base: Currency
    quote: Currency
    rate: Rate
    source: Name | None = None
    valid_until: Instant | None = None
    metadata: Metadata = {}

    def command(self) -> CreateFxRate:
        """Return what the books are to do; raises the problem of a rate between a currency and itself."""
        if self.base == self.quote:
            detail = "A rate is between two currencies."
            raise invalid([Fault(code="validation.invalid_value", pointer="/quote", detail=detail)])
        return CreateFxRate(
            base=self.base,
            quote=self.quote,
            rate=self.rate,
            source=self.source,
            valid_until=wire.instant_of(self.valid_until, "/valid_until"),
            metadata=self.metadata,
        )


async def create_fx_rate(call: Call, _asked: Asked) -> Response:
    """Note an exchange rate."""
    document = await call.document()
    command = wire.decode(document, FxRateCreate).command()
    done = await call.services.engine.submit(
        call.site, command, key=call.idempotency(document), diagnostics=call.trace.diagnostics()
    )
    return lists.committed(done, status=201, location=f"/v1/fx_rates/{done.resource_id}")


async def list_fx_rates(call: Call, asked: Asked) -> Response:
    """List exchange rates, the newest first."""
    wanted = asked.selection("base", "quote")
    return lists.page(call, await call.services.engine.ask(call.site, fx_queries.list_rates, wanted))


async def get_fx_rate(call: Call, _asked: Asked) -> Response:
    """Return one exchange rate."""
    found = await call.services.engine.ask(call.site, fx_queries.rate, call.path_id("fx_rate"))
    return lists.one(found, found.value.lock_version)
