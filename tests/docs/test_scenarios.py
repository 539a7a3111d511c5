"""The scenarios run: every request of a page is sent in its order, and every answer holds what the page shows of it."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import httpx2
import pytest

from engine.clock import SystemClock
from engine.money import format_instant, parse_instant
from gledger.parts import open_parts
from gledger.serve import Gateway
from gledger.settings import Settings
from tests.api.stage import BASE_URL, open_site
from tests.docs.documents import ROOT, name
from tests.processes import until

SCENARIOS: Final = sorted((ROOT / "docs" / "scenarios").glob("*.md"))
_BLOCK: Final = re.compile(r"^```(http|json)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_REQUEST: Final = re.compile(r"(?:# (\w+)\n)?(GET|POST|PATCH|PUT|DELETE) (\S+)\n(?:\n(.*))?\Z", re.DOTALL)
_PLACE: Final = re.compile(r"(?<!\{)\{(\w+)\}(?!\})")
_IN_DAYS: Final = re.compile(r"\{in (\d+) days\}")
"""How a page shows an instant so many days after the request was sent."""
_IN_A_SECOND: Final = "{in a second}"
"""How a page asks for an instant that a test can wait for."""
_SECOND_US: Final = 1_000_000
_DAY_US: Final = 86_400_000_000
_PATIENCE_S: Final = 30.0
_LATE_US: Final = 60_000_000


@dataclass(slots=True)
class Reader:
    """Somebody who follows a page: sends what it says, and remembers the ids that it gives names to."""

    client: httpx2.AsyncClient
    tend: Callable[[], Awaitable[object]]
    """Does what the books have to do of themselves by now, as a worker would."""
    names: dict[str, str] = field(default_factory=dict)

    def filled(self, text: str) -> str:
        """Return the text with ids where the page has names, and with instants where it speaks of now."""
        soon = format_instant(SystemClock().now_us() + _SECOND_US)
        return _PLACE.sub(lambda found: self.names[found[1]], text.replace(_IN_A_SECOND, soon))

    async def send(self, text: str) -> httpx2.Response:
        """Send a request as the page writes it."""
        found = _REQUEST.match(text)
        assert found is not None, text
        given, method, path, body = found.groups()
        content = None if body is None else self.filled(body)
        headers = {} if body is None else {"content-type": "application/json"}
        answer = await self.client.request(method, self.filled(path), content=content, headers=headers)
        if given is not None:
            self.names[given] = answer.json()["id"]
        return answer


@pytest.fixture
async def reader(tmp_path: Path, redis_server: str) -> AsyncIterator[Reader]:
    """A reader with a site of their own."""
    settings = Settings.from_env(
        {
            "GLEDGER_DATA": str(tmp_path),
            "GLEDGER_REDIS_URL": redis_server,
            "GLEDGER_MASTER_KEY": base64.b64encode(bytes(range(32))).decode(),
            "GLEDGER_PUBLIC_URL": BASE_URL,
        }
    )
    async with open_parts(settings) as parts:
        gateway = Gateway(parts)
        async with gateway.running(), open_site(parts, gateway.app) as site:
            yield Reader(site.client, partial(parts.engine.tend, site.site))


def lacking(shown: Any, answer: Any, place: str = "") -> list[str]:
    """Return where an answer does not hold what is shown of it; lists are shown whole."""
    if isinstance(shown, dict) and isinstance(answer, dict):
        return [
            wrong
            for key, value in shown.items()
            for wrong in (lacking(value, answer[key], f"{place}/{key}") if key in answer else [f"{place}/{key}"])
        ]
    if isinstance(shown, list) and isinstance(answer, list) and len(shown) == len(answer):
        pairs = enumerate(zip(shown, answer, strict=True))
        return [wrong for index, (one, other) in pairs for wrong in lacking(one, other, f"{place}/{index}")]
    if isinstance(shown, str) and isinstance(answer, str) and (days := _IN_DAYS.fullmatch(shown)) is not None:
        early = SystemClock().now_us() + int(days[1]) * _DAY_US - parse_instant(answer)
        return [] if 0 <= early < _LATE_US else [f"{place}: {answer} is not in {days[1]} days"]
    return [] if shown == answer else [f"{place}: {answer!r}, not {shown!r}"]


@pytest.mark.parametrize("page", SCENARIOS, ids=name)
async def test_a_scenario_runs_as_it_is_written(page: Path, reader: Reader) -> None:
    """What is not said to be refused succeeds."""
    blocks = _BLOCK.findall(page.read_text(encoding="utf-8"))
    shown_after = [json.loads(text) if language == "json" else {} for language, text in [*blocks[1:], ("http", "")]]
    for (language, text), shown in zip(blocks, shown_after, strict=True):
        if language == "http":
            answer = await _answer(reader, text, shown)
            refused = shown.get("status") if isinstance(shown.get("status"), int) else None
            assert answer.status_code == refused or (refused is None and answer.is_success), f"{text}\n{answer.text}"
            expected = json.loads(reader.filled(json.dumps(shown)))
            assert lacking(expected, answer.json()) == [], f"{text}\n{answer.text}"


async def _answer(reader: Reader, text: str, shown: Any) -> httpx2.Response:
    """Return the answer to a request; one that is headed `# until` is asked again until it is as it is shown."""
    if not text.startswith("# until\n"):
        return await reader.send(text)

    async def look() -> httpx2.Response | None:
        await reader.tend()
        answer = await reader.send(text.removeprefix("# until\n"))
        return None if lacking(shown, answer.json()) else answer

    return await until(look, timeout_s=_PATIENCE_S)


def test_every_answer_stands_after_its_request() -> None:
    """An answer that follows no request would be looked at by nobody."""
    for page in SCENARIOS:
        languages = [language for language, _ in _BLOCK.findall(page.read_text(encoding="utf-8"))]
        pairs = list(zip(["json", *languages], languages, strict=False))
        assert languages.count("http") > 10, name(page)
        assert ("json", "json") not in pairs, name(page)
