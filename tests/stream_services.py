"""What streams stand on without the rest of a gateway: their own code is the product's, what they do not ask for is not there."""

from __future__ import annotations

from typing import Any, cast

from prometheus_client import CollectorRegistry

from auth.authenticator import Authenticator
from auth.principal import Principal, SiteRef
from auth.revocations import Revocations
from auth.tokens import Issuers
from engine.clock import Clock
from engine.databases import Site
from engine.ledger import Engine
from gateway.call import Services, StreamSettings
from gateway.metrics import Metrics
from gateway.tailers import Tailers
from gledger.limiter import RateLimiter

_URL = "http://simulated"


def stream_services(
    engine: Engine,
    tailers: Tailers,
    clock: Clock,
    *,
    stream: StreamSettings = StreamSettings(),
    metrics: Metrics | None = None,
    revocations: Revocations | None = None,
) -> Services:
    """Return what SSE and WebSocket ask for, and nothing in place of the rest."""
    nothing = cast("Any", None)
    authenticator = Authenticator(
        nothing, keyring=nothing, issuers=Issuers(public_url=_URL), pepper=b"", revocations=revocations or Revocations()
    )
    return Services(
        engine=engine, tailers=tailers, clock=clock, metrics=metrics or Metrics(CollectorRegistry()), stream=stream,
        authenticator=authenticator, limiter=RateLimiter(0, lambda: 0.0), endpoints=nothing, log=nothing, replay=nothing,
        replays=nothing, skip=nothing, figures=nothing, inspectors=nothing, api_keys=nothing, clients=nothing,
        people=nothing, sessions=nothing, mint=nothing, oauth=nothing, ready=nothing, documents={}, ids=nothing,
        public_url=_URL, metrics_token=None,
    )  # fmt: skip


def follower(site: Site, credential_id: str, expires_at: int) -> Principal:
    """Return who may follow a site's feed until an instant (microseconds)."""
    return Principal(
        kind="client",
        id="follower",
        site=SiteRef(id=site.id, organization=site.organization, environment=site.environment),
        scopes=frozenset({"events.read"}),
        expires_at=expires_at,
        credential_id=credential_id,
    )
