"""The authorization server's endpoints: the surface only passes them on, in OAuth's own forms of answer."""

from __future__ import annotations

from starlette.responses import Response

from gateway.call import Call
from gateway.query import Asked


async def token(call: Call, _asked: Asked) -> Response:
    """Give a client an access token for its credentials (RFC 6749 §4.4)."""
    return await call.services.oauth.token(call.request)


async def revoke(call: Call, _asked: Asked) -> Response:
    """Take an access token back (RFC 7009)."""
    return await call.services.oauth.revoke(call.request)


async def introspect(call: Call, _asked: Asked) -> Response:
    """Tell a client about one of its tokens (RFC 7662)."""
    return await call.services.oauth.introspect(call.request)


async def metadata(call: Call, _asked: Asked) -> Response:
    """Describe the authorization server (RFC 8414)."""
    return await call.services.oauth.metadata(call.request)


async def jwks(call: Call, _asked: Asked) -> Response:
    """Publish the keys that access tokens are verified with (RFC 7517)."""
    return await call.services.oauth.jwks(call.request)
