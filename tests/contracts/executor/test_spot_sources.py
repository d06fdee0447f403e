"""Each source of spot notices against an HTTP server that behaves, and misbehaves, as the real."""

from __future__ import annotations

import json
import os
import socket
import time
from email.utils import formatdate
from typing import TYPE_CHECKING, Any

import pytest

from executor.spot import http
from executor.spot.aws import Aws
from executor.spot.azure import Azure
from executor.spot.gcp import Gcp
from executor.spot.notice import Notice, SourceError
from executor.spot.simple import FileSource, HttpSource
from executor.spot.told import FARTHEST_S
from simherd.local.stack import free_port
from tests.support.metadata import HTML, Metadata

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from executor.spot.notice import Source

#: Looks that hang take the seconds that they may.
pytestmark = pytest.mark.slow

#: Seconds beyond a limit that a busy test machine may take.
SLACK_S = 15.0
REBALANCE = "/latest/meta-data/events/recommendations/rebalance"
OVER_HTTP: dict[str, Callable[[Metadata], Source]] = {
    "aws": lambda said: Aws(said.url),
    "gcp": lambda said: Gcp(said.url),
    "azure": lambda said: Azure(said.url),
    "http": lambda said: HttpSource(f"{said.url}/notice"),
}


class Clock:
    """Seconds since the epoch, moved by hand."""

    def __init__(self) -> None:
        self.now = float(int(time.time()))

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def said() -> Iterator[Metadata]:
    with Metadata() as server:
        yield server


@pytest.fixture(params=OVER_HTTP)
def source(request: pytest.FixtureRequest, said: Metadata) -> Iterator[Source]:
    made = OVER_HTTP[request.param](said)
    yield made
    made.close()


@pytest.fixture
def aws(said: Metadata) -> Iterator[tuple[Aws, Clock]]:
    clock = Clock()
    made = Aws(said.url, clock)
    yield made, clock
    made.close()


@pytest.fixture
def azure(said: Metadata) -> Iterator[tuple[Azure, Clock]]:
    clock = Clock()
    made = Azure(said.url, clock)
    yield made, clock
    made.close()


def zulu(at: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))


def event(kind: str = "Preempt", not_before: object = "", **more: Any) -> dict[str, Any]:
    return {
        "EventId": "A123BC45-1234-5678-AB90-ABCDEF123456",
        "EventStatus": "Scheduled",
        "EventType": kind,
        "ResourceType": "VirtualMachine",
        "Resources": ["worker-0", "Worker-1"],
        "NotBefore": not_before,
        "Description": "",
        "EventSource": "Platform",
        "DurationInSeconds": -1,
        **more,
    }


# --- all sources over HTTP ------------------------------------------------------------------


def test_without_a_notice_there_is_none(source: Source) -> None:
    assert source.look() is None
    assert source.look() is None


@pytest.mark.parametrize("fault", ["500", "html", "junk", "long", "cut", "redirect"])
def test_junk_is_an_error_and_the_next_answer_counts(
    source: Source, said: Metadata, fault: str
) -> None:
    said.fault = fault
    with pytest.raises(SourceError):
        source.look()
    assert "GET /plain" not in said.asked
    said.fault = None
    assert source.look() is None
    # Also where a token or a name is known by now.
    said.fault = fault
    with pytest.raises(SourceError):
        source.look()


@pytest.mark.parametrize("fault", ["hang", "dribble"])
def test_no_server_holds_a_look(
    source: Source, said: Metadata, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "LOOK_S", 0.3)
    said.fault = fault
    began = time.monotonic()
    with pytest.raises(SourceError):
        source.look()
    assert time.monotonic() - began < 0.3 + SLACK_S
    said.fault = None
    monkeypatch.undo()
    assert source.look() is None


def test_no_handshake_holds_a_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "LOOK_S", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        source = HttpSource(f"https://127.0.0.1:{silent.getsockname()[1]}/notice")
        began = time.monotonic()
        with pytest.raises(SourceError):
            source.look()
        assert time.monotonic() - began < 0.3 + SLACK_S
        source.close()


def test_a_server_that_is_not_there_is_an_error() -> None:
    for made in (Aws, Gcp, Azure, HttpSource):
        source = made(f"http://127.0.0.1:{free_port()}")
        with pytest.raises(SourceError):
            source.look()
        source.close()


def test_a_proxy_of_the_environment_is_not_asked(
    source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("no_proxy", "")
    assert source.look() is None


# --- AWS ------------------------------------------------------------------------------------


@pytest.mark.parametrize("action", ["terminate", "stop"])
def test_aws_says_when_the_machine_goes(
    aws: tuple[Aws, Clock], said: Metadata, action: str
) -> None:
    source, clock = aws
    said.action = {"action": action, "time": zulu(clock.now + 120)}
    notice = Notice(clock.now + 120, "aws")
    assert source.look() == notice
    clock.now += 50
    assert source.look() == notice


def test_aws_hibernates_at_once(aws: tuple[Aws, Clock], said: Metadata) -> None:
    source, clock = aws
    first = clock.now
    said.action = {"action": "hibernate", "time": zulu(clock.now + 120)}
    assert source.look() == Notice(first, "aws")
    clock.now += 5
    assert source.look() == Notice(first, "aws")
    said.action = None
    assert source.look() is None


def test_aws_renews_its_token_before_its_end(aws: tuple[Aws, Clock], said: Metadata) -> None:
    source, clock = aws
    said.ttl_s = 60
    source.look()
    clock.now += 44
    source.look()
    assert said.tokens_given == 1
    clock.now += 1
    source.look()
    assert said.tokens_given == 2


def test_aws_renews_a_token_that_is_refused(aws: tuple[Aws, Clock], said: Metadata) -> None:
    source, clock = aws
    source.look()
    said.tokens.clear()
    said.action = {"action": "stop", "time": zulu(clock.now + 120)}
    assert source.look() == Notice(clock.now + 120, "aws")
    assert said.tokens_given == 2


def test_aws_is_never_asked_without_a_token(aws: tuple[Aws, Clock], said: Metadata) -> None:
    source, _ = aws
    said.faults["/latest/api/token"] = "500"
    with pytest.raises(SourceError, match="/latest/api/token answered 500"):
        source.look()
    said.faults["/latest/api/token"] = "html"
    with pytest.raises(SourceError, match="token"):
        source.look()
    assert said.asked == ["PUT /latest/api/token"] * 2


def test_aws_gives_up_a_service_that_refuses_every_token(
    aws: tuple[Aws, Clock], said: Metadata, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, _ = aws
    monkeypatch.setattr(said, "tokens", _Forgetful())
    with pytest.raises(SourceError, match="401"):
        source.look()
    assert len(said.asked) == 4


class _Forgetful(set[str]):
    def add(self, _: str) -> None:
        pass


def test_aws_rebalance_is_a_hint_and_no_notice(aws: tuple[Aws, Clock], said: Metadata) -> None:
    source, clock = aws
    assert source.look() is None
    assert not source.at_risk
    said.rebalance = {"noticeTime": zulu(clock.now)}
    assert source.look() is None
    assert source.at_risk
    # A fault of the hint is none of the notice.
    for fault in ("500", "html", "junk"):
        said.faults[REBALANCE] = fault
        assert source.look() is None
        assert source.at_risk
    said.faults.clear()
    said.rebalance = None
    assert source.look() is None
    assert not source.at_risk


@pytest.mark.parametrize(
    "told",
    [
        {},
        {"action": "terminate"},
        {"action": "terminate", "time": 5},
        {"action": "terminate", "time": "soon"},
        {"action": "terminate", "time": "0001-01-01T00:00:00Z"},
        {"action": "terminate", "time": zulu(time.time() + FARTHEST_S + 3600)},
        {"action": "terminate", "time": zulu(time.time() - FARTHEST_S - 3600)},
        {"action": "none", "time": zulu(time.time())},
        ["terminate"],
    ],
)
def test_aws_junk_is_no_notice(aws: tuple[Aws, Clock], said: Metadata, told: Any) -> None:
    said.action = told
    with pytest.raises(SourceError):
        aws[0].look()


# --- GCP ------------------------------------------------------------------------------------


def test_gcp_leaves_30_s_from_when_it_was_first_seen(said: Metadata) -> None:
    clock = Clock()
    source = Gcp(said.url, clock)
    said.preempted = "TRUE"
    notice = Notice(clock.now + 30, "gcp")
    assert source.look() == notice
    clock.now += 7
    said.fault = "500"
    with pytest.raises(SourceError):
        source.look()
    said.fault = None
    assert source.look() == notice
    said.preempted = "FALSE"
    assert source.look() is None
    said.preempted = "TRUE\n"
    assert source.look() == Notice(clock.now + 30, "gcp")
    source.close()


def test_gcp_must_be_google(said: Metadata) -> None:
    source = Gcp(said.url)
    said.preempted, said.flavor = "TRUE", False
    with pytest.raises(SourceError, match="Metadata-Flavor"):
        source.look()
    said.flavor = True
    for junk in ("", "true", "1", "TRUE FALSE", HTML):
        said.preempted = junk
        with pytest.raises(SourceError):
            source.look()
    source.close()


# --- Azure ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["Preempt", "Terminate"])
def test_azure_says_when_the_machine_goes(
    azure: tuple[Azure, Clock], said: Metadata, kind: str
) -> None:
    source, clock = azure
    said.events = [
        event("Freeze", formatdate(clock.now + 5, usegmt=True), EventId="1"),
        event(kind, formatdate(clock.now + 30, usegmt=True), EventId="2"),
        event(kind, formatdate(clock.now + 300, usegmt=True), EventId="3"),
    ]
    assert source.look() == Notice(clock.now + 30, "azure")
    source.look()
    assert said.count("GET /metadata/instance/compute/name") == 1


def test_azure_events_of_others_are_none(azure: tuple[Azure, Clock], said: Metadata) -> None:
    said.events = [
        event(Resources=["worker-0", "worker-11"]),
        event("Reboot"),
        event("Redeploy"),
        event(Resources=[]),
    ]
    assert azure[0].look() is None


@pytest.mark.parametrize("empty", ["", None])
def test_azure_without_a_time_is_at_once(
    azure: tuple[Azure, Clock], said: Metadata, empty: object
) -> None:
    source, clock = azure
    said.events = [event(not_before=empty)]
    first = Notice(clock.now, "azure")
    assert source.look() == first
    clock.now += 10
    assert source.look() == first


def test_azure_that_begins_early_or_late_keeps_the_earlier_time(
    azure: tuple[Azure, Clock], said: Metadata
) -> None:
    source, clock = azure
    due = clock.now + 30
    for begun_after_s, expected in ((10, clock.now + 10), (40, due)):
        said.events = [event(not_before=formatdate(due, usegmt=True))]
        assert source.look() == Notice(due, "azure")
        clock.now = due - 30 + begun_after_s
        said.events = [event(EventStatus="Started")]
        assert source.look() == Notice(expected, "azure")
        said.events = []
        assert source.look() is None
        clock.now = due - 30


@pytest.mark.parametrize(
    "events",
    [
        None,
        {},
        ["Preempt"],
        [event(EventType=None)],
        [event(EventId=None)],
        [event(Resources="worker-1")],
        [event(not_before="soon")],
        [event(not_before=30)],
        [event(not_before="Mon, 19 Sep 2016 18:29:47 GMT")],
        [event(not_before=formatdate(time.time() + FARTHEST_S + 3600, usegmt=True))],
        [{key: value for key, value in event().items() if key != "NotBefore"}],
    ],
)
def test_azure_junk_is_no_notice(azure: tuple[Azure, Clock], said: Metadata, events: Any) -> None:
    said.events = events
    with pytest.raises(SourceError):
        azure[0].look()


def test_azure_without_its_name_is_no_notice(azure: tuple[Azure, Clock], said: Metadata) -> None:
    said.events = [event()]
    for junk in ("", HTML, "two words", "x" * 300):
        said.vm = junk
        with pytest.raises(SourceError, match="name"):
            azure[0].look()
    said.vm = "WORKER-1"
    assert azure[0].look() is not None


# --- a URL of one's own ---------------------------------------------------------------------


@pytest.fixture
def plain(said: Metadata) -> Iterator[tuple[HttpSource, Clock]]:
    clock = Clock()
    made = HttpSource(f"{said.url}/notice", clock)
    yield made, clock
    made.close()


def test_a_url_says_when_the_machine_goes(plain: tuple[HttpSource, Clock], said: Metadata) -> None:
    source, clock = plain
    said.plain = (204, "")
    assert source.look() is None
    said.plain = (200, json.dumps({"reclaim_at": clock.now + 50.5}))
    assert source.look() == Notice(clock.now + 50.5, f"{said.url}/notice")


def test_a_url_may_say_in_how_many_seconds(plain: tuple[HttpSource, Clock], said: Metadata) -> None:
    source, clock = plain
    due = clock.now + 60
    said.plain = (200, '{"in_s": 60}')
    assert source.look() == Notice(due, source.name)
    clock.now += 20
    assert source.look() == Notice(due, source.name)
    said.plain = (200, '{"in_s": 40}')
    assert source.look() == Notice(due, source.name)
    said.plain = (404, "")
    assert source.look() is None
    said.plain = (200, '{"in_s": 40}')
    clock.now += 20
    assert source.look() == Notice(clock.now + 40, source.name)


#: What neither a file nor a URL may say.
JUNK = (
    *("{}", "null", "[1]", HTML, '{"in_s": -1}', '{"in_s": "60"}', '{"in_s": true}'),
    *('{"in_s": 1e9}', '{"in_s": NaN}', '{"reclaim_at": 5}', '{"reclaim_at": 1e999}'),
    *('{"reclaim_at": null}', '{"in_s": 60, "reclaim_at": 5}', '{"in_s": 60, "other": 1}'),
)


@pytest.mark.parametrize("text", ["", " ", *JUNK])
def test_junk_of_a_url_is_no_notice(
    plain: tuple[HttpSource, Clock], said: Metadata, text: str
) -> None:
    said.plain = (200, text)
    with pytest.raises(SourceError):
        plain[0].look()


@pytest.mark.parametrize("status", [201, 304, 401, 403, 503])
def test_other_answers_of_a_url_are_errors(
    plain: tuple[HttpSource, Clock], said: Metadata, status: int
) -> None:
    said.plain = (status, "")
    with pytest.raises(SourceError, match=str(status)):
        plain[0].look()


def test_an_error_does_not_tell_the_secrets_of_a_url(said: Metadata) -> None:
    source = HttpSource(said.url.replace("//", "//me:hidden@") + "/notice?key=hidden")
    for fault in ("500", "html", "cut", "redirect", "long"):
        said.fault = fault
        with pytest.raises(SourceError) as raised:
            source.look()
        assert "hidden" not in f"{source.name} {raised.value}"
    source.close()


# --- a file ---------------------------------------------------------------------------------


@pytest.fixture
def notice_file(tmp_path: Path) -> tuple[FileSource, Path, Clock]:
    clock = Clock()
    return FileSource(tmp_path / "a notice", clock), tmp_path / "a notice", clock


def _write(path: Path, text: str, at: float) -> None:
    path.write_text(text)
    os.utime(path, (at, at))


def test_a_file_that_is_there_is_the_notice(notice_file: tuple[FileSource, Path, Clock]) -> None:
    source, path, clock = notice_file
    assert source.look() is None
    for text, expected in (
        ("", clock.now - 5 + 120),
        ("\n", clock.now - 5 + 120),
        ('{"in_s": 20}', clock.now - 5 + 20),
        (json.dumps({"reclaim_at": clock.now + 7}), clock.now + 7),
    ):
        _write(path, text, clock.now - 5)
        assert source.look() == Notice(expected, path.as_uri())
    path.unlink()
    assert source.look() is None
    assert FileSource(path / "below").look() is None


@pytest.mark.parametrize("text", [*JUNK, " " * 100_000])
def test_junk_in_a_file_is_no_notice(
    notice_file: tuple[FileSource, Path, Clock], text: str
) -> None:
    source, path, clock = notice_file
    _write(path, text, clock.now)
    with pytest.raises(SourceError):
        source.look()


def test_a_file_of_long_ago_is_no_notice(notice_file: tuple[FileSource, Path, Clock]) -> None:
    source, path, clock = notice_file
    _write(path, "", clock.now - FARTHEST_S - 121)
    with pytest.raises(SourceError, match="not believable"):
        source.look()


def test_what_is_no_file_is_no_notice(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\x00")
    open_files = len(os.listdir("/proc/self/fd"))
    for path in (tmp_path, tmp_path / "pipe", tmp_path / "bytes"):
        with pytest.raises(SourceError):
            FileSource(path).look()
    assert len(os.listdir("/proc/self/fd")) == open_files
