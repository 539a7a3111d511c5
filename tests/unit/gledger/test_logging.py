"""Logging: one line an event, whatever logger it came from, and never a secret."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from gledger.logging import MASK, configure


@pytest.fixture
def output() -> Iterator[io.StringIO]:
    """The log as JSON; the process's logging is as before when the test is over."""
    root = logging.getLogger()
    before = root.handlers[:], root.level
    stream = io.StringIO()
    configure("debug", "json", stream)
    yield stream
    root.handlers[:], level = before
    root.setLevel(level)
    structlog.reset_defaults()


def test_an_event_is_one_json_object_in_one_line(output: io.StringIO) -> None:
    """Fields stay fields."""
    structlog.get_logger("delivery").info("delivery.attempted", status=200, endpoint_id="e1", note="two\nlines")
    [line] = output.getvalue().splitlines()
    event = json.loads(line)
    assert (event["event"], event["level"], event["logger"], event["status"], event["note"]) == (
        "delivery.attempted",
        "info",
        "delivery",
        200,
        "two\nlines",
    )
    assert event["at"].endswith("Z")


def test_the_standard_librarys_loggers_come_out_the_same_way(output: io.StringIO) -> None:
    """A library's line is JSON too, with what it was given."""
    logging.getLogger("another.package").warning("lost %s", "it", extra={"peer": "p"})
    event = json.loads(output.getvalue())
    assert (event["event"], event["logger"], event["level"], event["peer"]) == (
        "lost it",
        "another.package",
        "warning",
        "p",
    )


@pytest.mark.parametrize(
    "fields",
    [
        {"client_secret": "hunter2"},
        {"headers": {"Authorization": "Bearer hunter2"}},
        {"headers": [("x", "Basic hunter2=")]},
        {"error": "refused: Bearer hunter2"},
        {"url": "postgresql://user:hunter2@host/db"},
        {"body": b'{"secret": "whsec_hunter2"}'},
        {"api_key": "hunter2", "nested": {"deeper": [{"password": "hunter2"}]}},
        {"jwt": "eyJhbGciOi.eyJhunter2.hunter2"},
    ],
)
def test_a_secret_is_masked_wherever_it_stands(output: io.StringIO, fields: dict[str, object]) -> None:
    """By its field's name or by its own form."""
    structlog.get_logger().info("event", **fields)
    assert "hunter2" not in output.getvalue()
    assert MASK in json.loads(output.getvalue(), strict=False).__repr__()


def test_an_api_keys_id_stays_readable(output: io.StringIO) -> None:
    """Operators find a key by its id; the secret behind it is masked."""
    structlog.get_logger().info("refused glk_sbx_0123456789ab_hunter2hunter2")
    assert json.loads(output.getvalue())["event"] == f"refused glk_sbx_0123456789ab_{MASK}"


def test_a_secret_in_a_traceback_is_masked(output: io.StringIO) -> None:
    """An exception's text is searched like any other."""
    try:
        raise ValueError("whsec_hunter2 is refused")
    except ValueError:
        structlog.get_logger().exception("failed")
    assert "ValueError" in output.getvalue()
    assert "hunter2" not in output.getvalue()


def test_authlibs_debug_lines_are_never_written(output: io.StringIO) -> None:
    """They carry client secrets, so the level asked for does not apply to them."""
    logging.getLogger("authlib.oauth2").debug("authenticate with %s", "hunter2")
    assert output.getvalue() == ""


def test_what_is_below_the_level_is_not_written() -> None:
    """The level is the least that is logged, for both kinds of logger."""
    stream = io.StringIO()
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    try:
        configure("warning", "json", stream)
        structlog.get_logger().info("small")
        logging.getLogger("x").info("small")
        assert stream.getvalue() == ""
    finally:
        root.handlers[:] = before
        root.setLevel(level)
        structlog.reset_defaults()
