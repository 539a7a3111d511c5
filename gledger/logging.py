"""Logging, set up once where the program is put together: one line an event, JSON or for the eye, secrets masked.

The standard library's loggers (the web server's, the database driver's) pass through the same chain. What is masked: the values
of fields whose names say that they are secret, and secrets recognised by their form wherever they stand.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any, Final, TextIO

import msgspec
import structlog

MASK: Final = "•••"

_SECRET_NAMES: Final = re.compile(
    r"secret|password|passwd|authorization|cookie|api_?key|master_?key|private_?key|access_token|refresh_token|^token$",
    re.IGNORECASE,
)
_SECRET_FORMS: Final = (
    # A scheme and its credentials; secrets by their prefixes; an API key, all but its id; a JWT; a password in a URL.
    (re.compile(r"\b(Bearer|Basic)\s+[A-Za-z0-9._~+/=-]+", re.IGNORECASE), rf"\1 {MASK}"),
    (re.compile(r"\b(whsec|whsk|gls)_[A-Za-z0-9+/=_-]+"), rf"\1_{MASK}"),
    (re.compile(r"\b(glk_[a-z]+_[0-9A-Za-z]+)_[0-9A-Za-z]+"), rf"\1_{MASK}"),
    (re.compile(r"\beyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*"), MASK),
    (re.compile(r"(\b[a-z][a-z0-9+.-]*://[^\s:/@]*):[^\s/@]+@", re.IGNORECASE), rf"\1:{MASK}@"),
)
# authlib's debug lines carry client secrets, SQLAlchemy's the parameters of statements; aiohttp's are one for each request.
_QUIET: Final[Mapping[str, int]] = {
    "authlib": logging.INFO,
    "sqlalchemy": logging.WARNING,
    "aiosqlite": logging.WARNING,
    "asyncio": logging.WARNING,
    "aiohttp": logging.WARNING,
    "arq": logging.WARNING,
    "alembic": logging.WARNING,
    "websockets": logging.WARNING,
    "uvicorn.access": logging.WARNING,
}


def configure(level: str, form: str, stream: TextIO | None = None) -> None:
    """Send all logging of this process to `stream` (standard error), from `level` up.

    `form` is `json`, `console`, or `auto`: console on a terminal, else JSON.
    """
    stream = stream or sys.stderr
    console = form == "console" or (form == "auto" and stream.isatty())
    least = logging.getLevelNamesMapping()[level.upper()]
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(least),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.ExtraAdder(), _without_colour, *shared],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                redact,
                structlog.dev.ConsoleRenderer(colors=stream.isatty()) if console else _as_json,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(least)
    for name, quiet in _QUIET.items():
        logging.getLogger(name).setLevel(max(quiet, least))
    # These would write a second copy past the formatter.
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        server = logging.getLogger(name)
        server.handlers.clear()
        server.propagate = True


def _without_colour(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Drop the web server's second copy of a message, which is for terminals."""
    event.pop("color_message", None)
    return event


def redact(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Mask every secret in a log event: a structlog processor, the last before the renderer."""
    return {name: _masked(name, value) for name, value in event.items()}


def _masked(name: str, value: Any) -> Any:
    if _SECRET_NAMES.search(name):
        return MASK if value else value
    match value:
        case str():
            for form, replacement in _SECRET_FORMS:
                value = form.sub(replacement, value)
            return value
        case bytes():
            return _masked(name, value.decode(errors="replace"))
        case Mapping():
            return {key: _masked(str(key), item) for key, item in value.items()}
        case list() | tuple():
            return [_masked("", item) for item in value]
        case _:
            return value


def _as_json(_: Any, __: str, event: MutableMapping[str, Any]) -> str:
    ordered = {name: event[name] for name in ("at", "level", "logger", "event") if name in event}
    return msgspec.json.encode({**ordered, **event}, enc_hook=str).decode()
