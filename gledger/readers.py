"""How the text of a setting becomes its value; a `ValueError` says what the text should have been."""

from __future__ import annotations

import base64
import binascii
import ipaddress
import math
from collections.abc import Callable
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from gateway.origins import origin_of

MASTER_KEY_BYTES: Final = 32

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def text(given: str) -> str:
    """Take the text as it is."""
    return given


def folder(text: str) -> Path:
    """Read a folder; what is relative is so to where the program starts."""
    return Path(text).expanduser().absolute()


def database(text: str) -> str:
    """Read the URL of a PostgreSQL or SQLite database."""
    if not text:
        return ""
    try:
        backend = make_url(text).drivername
    except ArgumentError:
        raise ValueError("is not a database URL: postgresql+asyncpg://user:password@host/database") from None
    if backend.partition("+")[0] not in {"postgresql", "sqlite"}:
        raise ValueError(f"{backend} is not supported: use postgresql+asyncpg:// or sqlite+aiosqlite:///")
    return text


def site_database(text: str) -> str:
    """Read the URL of the sites' database, which for SQLite must differ by site."""
    checked = database(text)
    if checked.startswith("sqlite") and not ("{organization}" in checked and "{environment}" in checked):
        raise ValueError("a SQLite file holds one site: the URL must contain {organization} and {environment}")
    return checked


def redis(text: str) -> str:
    """Read the URL of a Redis or Valkey server."""
    if text and not text.startswith(("redis://", "rediss://", "unix://")):
        raise ValueError("must begin with redis://, rediss:// or unix://")
    return text


def proxy(text: str) -> str:
    """Read the address of an HTTP proxy."""
    parts = urlsplit(text)
    if text and (parts.scheme != "http" or not parts.hostname or parts.path not in {"", "/"} or parts.query):
        raise ValueError("must be an address like http://proxy.internal:3128")
    return text


def master_key(text: str) -> bytes | None:
    """Read the master key from base64, of either alphabet, padded or not."""
    if not text:
        return None
    try:
        key = base64.b64decode(text.replace("-", "+").replace("_", "/") + "=" * (-len(text) % 4), validate=True)
    except binascii.Error:
        key = b""
    if len(key) != MASTER_KEY_BYTES:
        raise ValueError(f"must be {MASTER_KEY_BYTES} random bytes in base64 (openssl rand -base64 {MASTER_KEY_BYTES})")
    return key


def public_url(text: str) -> str:
    """Read the address clients use, without a slash at its end."""
    parts = urlsplit(text)
    if text and (parts.scheme not in {"http", "https"} or not parts.netloc or parts.query or parts.fragment):
        raise ValueError("must be an http or https address without a query: https://ledger.example.com")
    return text.rstrip("/")


def whole(least: int, most: int | None = None) -> Callable[[str], int]:
    """Return the reader of whole numbers between two limits."""

    def read(text: str) -> int:
        allowed = f"{least} or more" if most is None else f"{least} to {most}"
        try:
            number = int(text)
        except ValueError:
            raise ValueError(f"must be a whole number, {allowed}, not {text!r}") from None
        if number < least or (most is not None and number > most):
            raise ValueError(f"must be {allowed}, not {number}")
        return number

    return read


def port(text: str) -> int | None:
    """Read a port, or nothing."""
    return whole(0, 65535)(text) if text else None


def seconds(text: str) -> float:
    """Read a number of seconds, 0 or more."""
    try:
        number = float(text)
    except ValueError:
        raise ValueError(f"must be a number of seconds, not {text!r}") from None
    if not math.isfinite(number) or number < 0:
        raise ValueError(f"must be a number of seconds, 0 or more, not {text!r}")
    return number


def timeout(text: str) -> float:
    """Read a number of seconds, more than 0."""
    number = seconds(text)
    if number == 0:
        raise ValueError("must be more than 0 seconds")
    return number


def schedule(text: str) -> tuple[int, ...]:
    """Read whole seconds that are separated by commas."""
    read = whole(0)
    return tuple(read(part.strip()) for part in text.split(","))


def networks(text: str) -> tuple[Network, ...]:
    """Read addresses and networks that are separated by commas."""
    try:
        return tuple(ipaddress.ip_network(part.strip()) for part in text.split(",") if part.strip())
    except ValueError as error:
        raise ValueError(f"must be addresses or networks, comma separated (10.0.0.0/8): {error}") from None


def switch(text: str) -> bool:
    """Read on or off."""
    match text.lower():
        case "on" | "true" | "yes" | "1":
            return True
        case "off" | "false" | "no" | "0":
            return False
    raise ValueError(f"must be on or off, not {text!r}")


def one_of(*choices: str) -> Callable[[str], str]:
    """Return the reader of one word out of several."""

    def read(text: str) -> str:
        if text.lower() not in choices:
            raise ValueError(f"must be one of {', '.join(choices)}, not {text!r}")
        return text.lower()

    return read


def origins(text: str) -> tuple[str, ...]:
    """Read web origins as browsers write them: scheme, host, and a port that is not the scheme's own."""
    found = tuple(each.strip() for each in text.split(",") if each.strip())
    for each in found:
        if urlsplit(each).scheme not in {"http", "https"} or not urlsplit(each).hostname or origin_of(each) != each:
            raise ValueError(f"{each!r} is no origin: https://dashboard.example, without a path")
    return found
