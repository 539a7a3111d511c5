"""A handler that does nothing, the baseline of a posting: what the server and the framework cost before there is a ledger.

    python -m bench.empty_post PORT

`POST /v1/entries` reads the body and answers `{}`: nobody is authenticated, nothing is read in it, nothing is stored. Served by uvicorn
and Starlette with the settings and the protocol of the product.
"""

from __future__ import annotations

import sys

import uvicorn
import uvloop
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gledger.protocols import HttpProtocol


async def _empty(request: Request) -> Response:
    await request.body()
    return Response(b"{}", status_code=201, media_type="application/json")


async def _serve(port: int) -> None:
    config = uvicorn.Config(
        Starlette(routes=[Route("/v1/entries", _empty, methods=["GET", "POST"])]),
        port=port,
        http=HttpProtocol,
        log_level="critical",
        access_log=False,
        backlog=2048,
        timeout_graceful_shutdown=1,
    )
    await uvicorn.Server(config).serve()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1])))
