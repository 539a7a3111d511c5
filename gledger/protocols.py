"""How uvicorn speaks on a connection, where it is to speak otherwise."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from gateway.call import CUT


class _HeadWithBody:
    """A transport that sends an answer's head together with what follows it in the same turn of the loop.

    uvicorn writes them apart, and each is a system call: an eighth of what a posting cost the process.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._head = b""

    def write(self, data: bytes) -> None:
        """Write, but for a head that nothing follows yet."""
        if self._head:
            head, self._head = self._head, b""
            self._transport.write(head + data)
        elif data.startswith(b"HTTP/1."):
            self._head = data
            self._loop.call_soon(self._flush)
        else:
            self._transport.write(data)

    def close(self) -> None:
        """Close once everything is written."""
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if self._head:
            head, self._head = self._head, b""
            self._transport.write(head)

    def __getattr__(self, name: str) -> Any:
        """Be the transport in everything else."""
        return getattr(self._transport, name)


class HttpProtocol(HttpToolsProtocol):
    """uvicorn's HTTP, which lets an application break its connection off: a WebSocket takes the state over from here."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn has it
        """Take the connection."""
        self.app_state = {**self.app_state, CUT: transport.abort}
        super().connection_made(cast("asyncio.Transport", _HeadWithBody(transport, self.loop)))


class SocketProtocol(WebSocketsSansIOProtocol):
    """uvicorn's WebSocket, but for two things.

    What websockets cannot read as a request is answered: uvicorn left it waiting for ever. A handshake that was refused is over:
    uvicorn took it for one that was forgotten, and wrote an error to the log for each.
    """

    def data_received(self, data: bytes) -> None:
        """Take bytes; a request line or a header that is too long is refused."""
        super().data_received(data)
        if self.conn.handshake_exc is not None and not self.handshake_initiated:
            self.transport.write(
                b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
            )
            self.transport.close()

    async def send(self, message: Any) -> None:
        """Send what the application says."""
        await super().send(message)
        if self.initial_response is not None and self.close_sent:
            self.handshake_complete = True
