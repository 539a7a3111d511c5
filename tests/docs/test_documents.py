"""The documents hold together: links lead somewhere, examples run, lists are those of the program."""

from __future__ import annotations

import json
import re
import subprocess
import time
from fractions import Fraction
from pathlib import Path
from typing import Any, Final, get_args

import msgspec
import pytest
import typer.main
from prometheus_client import CollectorRegistry
from standardwebhooks.webhooks import WebhookVerificationError

from delivery.conditions import Filter, check_filter
from delivery.retry import DEFAULT_SCHEDULE_S
from delivery.signing import format_secret, signature_header
from engine.events import Envelope
from engine.expressions import Rounding, rounded
from gateway.metrics import Metrics
from gateway.routes import ROUTES
from gateway.socket import CLOSE_CODES
from gledger.cli import app
from gledger.meters import DeliveryMeter
from tests.docs.documents import ROOT, Block, anchors, blocks, documents, links, name

WEBHOOKS: Final = ROOT / "docs" / "webhooks.md"
STREAMS: Final = ROOT / "docs" / "streams.md"
OPERATIONS: Final = ROOT / "docs" / "operations.md"
KEY: Final = bytes(range(32))
BODY: Final = b'{"type":"entry.posted"}'


def written(language: str) -> list[Block]:
    """Return every code block in a language."""
    return [each for path in documents() for each in blocks(path, language)]


@pytest.mark.parametrize("document", documents(), ids=name)
def test_every_link_leads_somewhere(document: Path) -> None:
    """A link within the repository names a file that is there, and a heading that it has."""
    broken = []
    for target in links(document):
        file, _, anchor = target.partition("#")
        path = (document.parent / file).resolve() if file else document
        if not path.exists() or (anchor and anchor not in anchors(path)):
            broken.append(target)
    assert broken == []


def test_every_decision_is_in_the_list_and_has_its_parts() -> None:
    """Decisions are numbered without a gap; each says what, why, what else, what follows and what keeps it true."""
    folder = ROOT / "docs" / "decisions"
    pages = sorted(folder.glob("[0-9]*.md"))
    listed = [target for target in links(folder / "README.md") if target[0].isdigit()]
    assert listed == [page.name for page in pages]
    assert [int(page.name[:4]) for page in pages] == list(range(1, len(pages) + 1))
    for page in pages:
        text = page.read_text(encoding="utf-8")
        parts = re.findall(r"^## (.*)$", text, re.MULTILINE)
        assert parts == ["Decision", "Context", "Alternatives", "Consequences", "Check"], page.name
        assert text.startswith(f"# {int(page.name[:4])}. "), page.name


@pytest.mark.parametrize("block", written("python"), ids=lambda block: block.document)
def test_python_in_a_document_compiles(block: Block) -> None:
    """Whoever copies it gets a program."""
    compile(block.text, block.document, "exec")


@pytest.mark.parametrize("block", written("json"), ids=lambda block: block.document)
def test_json_in_a_document_is_json(block: Block) -> None:
    """Nothing is left out with dots where it says that it is JSON."""
    assert isinstance(json.loads(block.text), dict)


@pytest.mark.parametrize("block", written("sh"), ids=lambda block: block.document)
def test_shell_in_a_document_is_shell(block: Block) -> None:
    """The plain shell reads it; the README's test runs it."""
    read = subprocess.run(["sh", "-n"], input=block.text, text=True, capture_output=True, check=False)
    assert (read.returncode, read.stderr) == (0, "")


def test_the_envelope_that_partners_are_shown_is_the_products() -> None:
    """The example decodes as the struct that events are made of."""
    _, example, _ = blocks(WEBHOOKS, "json")
    envelope = msgspec.json.decode(example.text, type=Envelope, strict=True)
    assert set(json.loads(example.text)) <= {field.encode_name for field in msgspec.structs.fields(Envelope)}
    assert envelope.resource.id == json.loads(example.text)["data"]["id"]


def test_the_filter_that_partners_are_shown_is_one() -> None:
    """It decodes as the product decodes it, and is accepted."""
    example = blocks(WEBHOOKS, "json")[-1]
    check_filter(msgspec.convert(json.loads(example.text)["filter"], Filter))


def test_the_verifications_that_partners_are_shown_tell_ours_from_others() -> None:
    """Both accept what the product signs, with one secret and during a rotation, and refuse everything else."""
    accept, is_genuine = (_function(block) for block in blocks(WEBHOOKS, "python"))
    now, secret = int(time.time()), format_secret(KEY)

    def genuine(headers: dict[str, str], body: bytes = BODY) -> bool:
        try:
            accept(body, headers, secret)
        except WebhookVerificationError:
            assert not is_genuine(body, headers, secret)
            return False
        return bool(is_genuine(body, headers, secret))

    assert genuine(_signed(now, KEY))
    assert genuine(_signed(now, bytes(32), KEY))
    assert not genuine(_signed(now, bytes(32)))
    assert not genuine(_signed(now, KEY), BODY + b" ")
    assert not genuine(_signed(now - 400, KEY))
    assert not genuine(_signed(now, KEY) | {"webhook-id": "another"})


def test_every_command_is_explained() -> None:
    """The operators' table has each command of the program, and no other."""
    named = re.findall(
        r"^\| `gledger (\w+)(?: \w+)?` \|",
        OPERATIONS.read_text(encoding="utf-8").partition("## Commands")[2],
        re.MULTILINE,
    )
    commands: Any = typer.main.get_command(app)
    assert sorted(set(named)) == sorted(commands.commands)


def test_every_metric_is_explained() -> None:
    """The operators' table has each metric of the program's own, and no other."""
    registry = CollectorRegistry()
    Metrics(registry)
    DeliveryMeter(registry)
    # A counter is collected without the ending that it is shown with.
    made = {f"{each.name}_total" if each.type == "counter" else each.name for each in registry.collect()}
    rows = re.findall(r"^\| (`gledger_.*?) \|", OPERATIONS.read_text(encoding="utf-8"), re.MULTILINE)
    assert set(re.findall(r"`(\w+)`", " ".join(rows))) == made


def test_every_close_code_is_explained() -> None:
    """The table has each code a stream is closed with."""
    rows = dict(re.findall(r"^\| (\d{4}) \| `([\w.]+)`", STREAMS.read_text(encoding="utf-8"), re.MULTILINE))
    assert rows == {str(code): reason for reason, code in CLOSE_CODES.items()}


def test_the_schedule_that_partners_are_told_is_the_default() -> None:
    """At once, then the waits as they are."""
    units = {"s": 1, "min": 60, "h": 3600}
    told = re.search(r"At once, then after (.*?), each moved", WEBHOOKS.read_text(encoding="utf-8").replace("\n", " "))
    assert told is not None
    waits = tuple(int(count) * units[unit] for count, unit in re.findall(r"(\d+) (s|min|h)\b", told[1]))
    assert (0, *waits) == DEFAULT_SCHEDULE_S


def test_every_operation_that_a_document_names_exists() -> None:
    """`POST /v1/…` in a document is a route; what stands for an id does not matter."""
    known = {(each.method, re.sub(r"\{\w+\}", "*", each.path)) for each in ROUTES}
    asked = [
        (method, re.sub(r"\{\w+\}", "*", path.partition("?")[0]), name(document))
        for document in documents()
        for method, path in re.findall(
            r"\b(GET|POST|PATCH|DELETE) (/[\w/{}.?-]*)", document.read_text(encoding="utf-8")
        )
    ]
    assert len(asked) > 10
    assert [each for each in asked if each[:2] not in known] == []


def test_rounding_is_as_users_are_told() -> None:
    """The table of the page on business events is what the books do."""
    text = (ROOT / "docs" / "business-events.md").read_text(encoding="utf-8")
    header = re.search(r"^\| rounding \| (.*) \|$", text, re.MULTILINE)
    assert header is not None
    values = [Fraction(each) for each in header[1].split(" | ")]
    for rounding in get_args(Rounding):
        told = re.search(rf"^\| `{rounding}` \| (.*) \|$", text, re.MULTILINE)
        assert told is not None, rounding
        assert [int(each) for each in told[1].split(" | ")] == [rounded(value, rounding) for value in values]


def test_the_changelog_has_what_is_not_released_on_top() -> None:
    """Keep a Changelog: the first section is Unreleased, and its kinds are those of the form."""
    headings = re.findall(r"^(##+) (.*)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert headings[0] == ("##", "[Unreleased]")
    kinds = {text for level, text in headings if level == "###"}
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def _function(block: Block) -> Any:
    """Return the one function that an example defines."""
    made: dict[str, Any] = {}
    exec(compile(block.text, block.document, "exec"), made)
    [found] = [each for each in made.values() if getattr(each, "__code__", None) is not None]
    return found


def _signed(at_s: int, *keys: bytes) -> dict[str, str]:
    return {
        "webhook-id": "message",
        "webhook-timestamp": str(at_s),
        "webhook-signature": signature_header(keys, "message", at_s, BODY),
    }
