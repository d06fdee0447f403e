"""A log line as JSON: what a collector finds in it, and what nobody finds there."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

from simherd.contract.cause import Cause
from simherd.runtime import logs
from simherd.runtime.logs import JsonLines, LogFormat, TextLines
from simherd.runtime.redaction import redact
from simherd.runtime.tracing import trace_id

if TYPE_CHECKING:
    from collections.abc import Iterator

SECRET = "s3cr3t-Value_0123456789abcdefABCDEF"
log = logging.getLogger("tests.logs")


class Lines(logging.StreamHandler[io.StringIO]):
    """Keeps what is written."""

    def __init__(self, formatter: logging.Formatter) -> None:
        super().__init__(io.StringIO())
        self.setFormatter(formatter)

    @property
    def text(self) -> str:
        return self.stream.getvalue()

    @property
    def last(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.text.splitlines()[-1])
        return found


@pytest.fixture(params=[JsonLines("executor")])
def lines(request: pytest.FixtureRequest) -> Iterator[Lines]:
    handler = Lines(request.param)
    log.addHandler(handler)
    log.setLevel("INFO")
    log.propagate = False
    yield handler
    log.removeHandler(handler)
    log.propagate = True


def test_the_names_of_the_template_are_fields(lines: Lines) -> None:
    text = "event=stop attempt=%s cause=%s left_s=%.1f share=%s error=%r reason=not_shared %s"
    log.warning(
        text, "abc:2", Cause.LEASE_LOST, 1.25, float("inf"), OSError("x"), "level=forged time=9"
    )
    found = lines.last
    assert found["time"].endswith("Z")
    assert len(found["time"]) == len("2026-01-01T00:00:00.000Z")
    found.pop("time")
    assert found == {
        "level": "WARNING",
        "logger": "tests.logs",
        "event": "stop",
        "message": text % ("abc:2", "lease_lost", 1.25, "inf", OSError("x"), "level=forged time=9"),
        "process": "executor",
        "task": "abc",
        "attempt": 2,
        "trace_id": trace_id("abc"),
        "cause": str(Cause.LEASE_LOST),
        "left_s": 1.25,
        "share": "inf",
        "error": "OSError('x')",
        "reason": "not_shared",
    }


def test_a_library_s_lines_are_lines_too(lines: Lines) -> None:
    wrong = log.makeRecord("x", logging.INFO, "", 0, "got %d of process=%s", ("seven", "x"), None)
    lines.handle(wrong)
    assert "seven" in lines.last["message"]
    assert lines.last["process"] == "executor"
    assert "event" not in lines.last
    log.info("100%% of %(name)s", {"name": "n"})
    assert lines.last["message"] == "100% of n"


@pytest.mark.fault("B16")
@pytest.mark.parametrize(
    "lines", [JsonLines("api"), TextLines("%(levelname)s %(message)s")], indirect=True
)
def test_hostile_text_stays_on_its_line(lines: Lines) -> None:
    log.info("event=x name=%s", 'a\nTraceback\r\n\x1b[2J\u2028\u202e"}{"level":"forged"')
    assert len(lines.text.splitlines()) == 1
    assert lines.text.isascii() or lines.text.rstrip("\n").isprintable()


def test_a_trace_is_one_string(lines: Lines) -> None:
    try:
        raise ValueError("many\nlines")
    except ValueError:
        log.exception("event=broke task=%s", "abc")
    assert len(lines.text.splitlines()) == 1
    assert lines.last["exception"].startswith("Traceback")
    assert "ValueError: many\nlines" in lines.last["exception"]


def test_log_context_is_inherited_by_threads(lines: Lines) -> None:
    with logs.about(attempt="abc:1", request_id="r1"):
        work = logs.in_context(log.info)
        logs.note(user="u")
        threads = [threading.Thread(target=work, args=("event=%s", n)) for n in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert {json.loads(line)["user"] for line in lines.text.splitlines()} == {"u"}
        with logs.about(attempt="abc:2"):
            log.info("event=inner")
        inner = lines.last
        log.info("event=other attempt=%s", "def:7")
    assert (inner["task"], inner["attempt"], inner["request_id"]) == ("abc", 2, "r1")
    assert (lines.last["task"], lines.last["attempt"]) == ("def", 7)
    logs.note(user="nobody")
    log.info("event=outside")
    assert lines.last.keys() == {"time", "level", "logger", "event", "message", "process"}


@pytest.mark.parametrize(
    "text",
    [
        f"https://s3/b/k?X-Amz-Algorithm=A&X-Amz-Signature={SECRET}&X-Amz-Date=1",
        f"https://s3/b/k?X-Amz-Security-Token={SECRET}",
        f"/files/a.zip?user=u&verb=get&expires=1&signature={SECRET}",
        f"redis://:{SECRET}@127.0.0.1:6379/0",
        f"postgresql+psycopg://simherd:{SECRET}@db/simherd",
        f"smtp://me%40x:{SECRET}/with@mail:25".replace("/with", ""),
        f"Authorization: Bearer {SECRET}",
        f"{{'X-API-Key': '{SECRET}', 'other': 1}}",
        json.dumps({"token": SECRET, "api_url": "http://x"}),
        f"SIMHERD_REDIS_PASSWORD={SECRET} SIMHERD_SIGNING_KEY={SECRET}",
        f"aws_secret_access_key = {SECRET}",
        f"the key sh_{SECRET} was refused, and so was join_{SECRET} or whsec_{SECRET}.",
    ],
)
def test_secrets_are_hidden(text: str, lines: Lines) -> None:
    assert SECRET not in redact(text)
    log.error("event=x error=%s", text, exc_info=(ValueError, ValueError(text), None))
    assert SECRET not in lines.text
    assert lines.last["event"] == "x"


def test_text_without_secrets_is_unchanged() -> None:
    text = (
        "event=stop attempt=abc:1 key=abc:1 url=http://host:80/a?user=u&expires=1 tokens are good"
    )
    assert redact(text) == text
    # Hostile text must not make the search long.
    long = "key" + "a.://:token" * 10_000
    assert redact(long) == long


def test_uncaught_exceptions_are_lines() -> None:
    script = (
        "import threading\n"
        "from simherd.runtime import logs\n"
        "logs.configure_logging('worker', 'INFO', logs.LogFormat.JSON, '')\n"
        "logs.always(machine='m1')\n"
        "def work(): raise ValueError('redis://:hush@h')\n"
        "thread = threading.Thread(target=work); thread.start(); thread.join()\n"
        "work()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    found = [json.loads(line) for line in done.stderr.splitlines()]
    assert [line["event"] for line in found] == ["thread_broke", "process_broke"]
    assert {line["machine"] for line in found} == {"m1"}
    assert all("ValueError: redis://:***@h" in line["exception"] for line in found)


def test_an_unknown_log_format_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="SIMHERD_LOG_FORMAT is 'xml'; it can be text or json"):
        LogFormat.of({"SIMHERD_LOG_FORMAT": "xml"})
