"""Follow the feed over SSE without a gap or a duplicate, however often the connection or this program ends.

python examples/follow.py [CREDENTIALS [CURSOR_FILE]]
"""

from __future__ import annotations

import json
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path
from typing import Any

CREDENTIALS = json.loads(Path(sys.argv[1] if len(sys.argv) > 1 else "data/credentials.json").read_text("utf-8"))
PLACE = Path(sys.argv[2] if len(sys.argv) > 2 else "feed.cursor")
SILENCE_S = 60
"""The server says something at least every 15 seconds: longer silence is a dead connection."""


def blocks(cursor: str) -> Iterator[dict[str, str]]:
    """Open the stream after a cursor and return its blocks, each as its fields."""
    query = "" if cursor else "?from=start"
    headers = {"authorization": f"Bearer {CREDENTIALS['api_key']}", "accept": "text/event-stream"}
    if cursor:
        headers["last-event-id"] = cursor
    request = urllib.request.Request(f"{CREDENTIALS['base_url']}/v1/events/stream{query}", headers=headers)  # noqa: S310
    with urllib.request.urlopen(request, timeout=SILENCE_S) as answer:  # noqa: S310 - the address is our own server's
        block: dict[str, str] = {}
        for line in answer:
            name, _, value = line.decode().rstrip("\r\n").partition(": ")
            if name:
                block[name] = value
            elif block:
                yield block
                block = {}


def take(event: dict[str, Any]) -> None:
    """Do what is to be done with an event."""
    print(event["sequence"], event["type"], event["resource"]["id"], flush=True)


def follow() -> None:
    """Follow until the server says that coming back is no use."""
    wait_s = 2.0
    while True:
        try:
            for block in blocks(PLACE.read_text("ascii") if PLACE.exists() else ""):
                wait_s = int(block["retry"]) / 1000 if "retry" in block else wait_s
                data = json.loads(block["data"])
                if block["event"] == "closing" and not data["reconnect"]:
                    raise SystemExit(f"the stream ended: {data['reason']}")
                if "." in block["event"]:
                    take(data)
                # After the work, never before it: whoever stops between the two sees an event again, and misses none.
                PLACE.write_text(block["id"], "ascii")
        except urllib.error.HTTPError as error:
            if error.code < 500 and error.code != 429:
                raise SystemExit(f"refused: {error.read().decode()}") from None
        except (OSError, HTTPException):
            pass
        time.sleep(wait_s)


if __name__ == "__main__":
    follow()
