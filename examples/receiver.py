"""A partner's webhook receiver: the standard library, and the `standardwebhooks` package for the signature.

WEBHOOK_SECRET=whsec_… python examples/receiver.py [PORT]
"""

from __future__ import annotations

import json
import os
import sys
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock

from standardwebhooks.webhooks import Webhook, WebhookVerificationError

WEBHOOK = Webhook(os.environ["WEBHOOK_SECRET"])
PORT = int(sys.argv[1]) if len(sys.argv) > 1 else 9009
# A real receiver keeps this in its database, in the transaction that does the work.
seen: set[str] = set()
numbers: set[int] = set()
lock = Lock()


class Receiver(BaseHTTPRequestHandler):
    """Answers 2xx only for what is genuine, and does the work of each event once."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Check the signature over the bytes as they came, then look at the event."""
        body = self.rfile.read(int(self.headers["content-length"]))
        try:
            WEBHOOK.verify(body, dict(self.headers), json_parse=False)
        except WebhookVerificationError as error:
            self._answer(HTTPStatus.BAD_REQUEST, f"refused: {error}")
            return
        with lock:
            numbers.add(number := int(self.headers["x-gledger-endpoint-sequence"]))
            again = (event_id := self.headers["webhook-id"]) in seen
            seen.add(event_id)
            missing = sorted(set(range(1, max(numbers))) - numbers)
        kind = json.loads(body)["type"]
        told = f"verified {kind}, number {number}{' again' if again else ''}, missing before it: {missing or 'none'}"
        self._answer(HTTPStatus.NO_CONTENT, told)

    def _answer(self, status: HTTPStatus, told: str) -> None:
        print(told, flush=True)
        self.send_response(status)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the base class's
        """Print nothing but what happened to webhooks."""


if __name__ == "__main__":
    print(f"receiving at http://127.0.0.1:{PORT}/webhooks", flush=True)
    ThreadingHTTPServer(("127.0.0.1", PORT), Receiver).serve_forever()
