"""Each source of spot notices against an HTTP server that behaves, and misbehaves, as the real."""

from __future__ import annotations

import socket
import time
from email.utils import formatdate
from typing import TYPE_CHECKING, Any

import pytest

from executor.spot import http
from executor.spot.aws import AwsSource
from executor.spot.azure import AzureSource
from executor.spot.gcp import GcpSource
from executor.spot.notice import ReclaimNotice, SourceError
from executor.spot.parse import FARTHEST_S
from executor.spot.simple import HttpSource
from simherd.local.stack import free_port
from tests.support.metadata import HTML, Clock, Metadata

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from executor.spot.notice import NoticeSource

#: Looks that hang take the seconds that they may.
pytestmark = pytest.mark.slow

#: Seconds beyond a limit that a busy test machine may take.
SLACK_S = 15.0
REBALANCE = "/latest/meta-data/events/recommendations/rebalance"
OVER_HTTP: dict[str, Callable[[Metadata], NoticeSource]] = {
    "aws": lambda said: AwsSource(said.url),
    "gcp": lambda said: GcpSource(said.url),
    "azure": lambda said: AzureSource(said.url),
    "http": lambda said: HttpSource(f"{said.url}/notice"),
}


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow machine's looks are not given up."""
    monkeypatch.setattr(http, "LOOK_S", 60)


@pytest.fixture(params=OVER_HTTP)
def source(request: pytest.FixtureRequest, said: Metadata) -> Iterator[NoticeSource]:
    made = OVER_HTTP[request.param](said)
    yield made
    made.close()


@pytest.fixture
def aws(said: Metadata) -> Iterator[tuple[AwsSource, Clock]]:
    clock = Clock()
    made = AwsSource(said.url, clock)
    yield made, clock
    made.close()


@pytest.fixture
def azure(said: Metadata) -> Iterator[tuple[AzureSource, Clock]]:
    clock = Clock()
    made = AzureSource(said.url, clock)
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


def test_without_a_notice_there_is_none(source: NoticeSource) -> None:
    assert source.poll() is None
    assert source.poll() is None


@pytest.mark.parametrize("fault", ["500", "html", "junk", "long", "cut", "redirect"])
def test_junk_is_an_error_and_the_next_answer_counts(
    source: NoticeSource, said: Metadata, fault: str
) -> None:
    said.fault = fault
    with pytest.raises(SourceError):
        source.poll()
    assert "GET /plain" not in said.asked
    said.fault = None
    assert source.poll() is None
    # Also where a token or a name is known by now.
    said.fault = fault
    with pytest.raises(SourceError):
        source.poll()


@pytest.mark.parametrize("fault", ["hang", "dribble"])
def test_no_server_holds_a_look(
    source: NoticeSource, said: Metadata, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "LOOK_S", 0.3)
    said.fault = fault
    began = time.monotonic()
    with pytest.raises(SourceError):
        source.poll()
    assert time.monotonic() - began < 0.3 + SLACK_S
    said.fault = None
    monkeypatch.setattr(http, "LOOK_S", 60)
    assert source.poll() is None


def test_no_handshake_holds_a_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "LOOK_S", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        source = HttpSource(f"https://127.0.0.1:{silent.getsockname()[1]}/notice")
        began = time.monotonic()
        with pytest.raises(SourceError):
            source.poll()
        assert time.monotonic() - began < 0.3 + SLACK_S
        source.close()


def test_a_server_that_is_not_there_is_an_error() -> None:
    for made in (AwsSource, GcpSource, AzureSource, HttpSource):
        source = made(f"http://127.0.0.1:{free_port()}")
        with pytest.raises(SourceError):
            source.poll()
        source.close()


def test_a_proxy_of_the_environment_is_not_asked(
    source: NoticeSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("no_proxy", "")
    assert source.poll() is None


# --- AWS ------------------------------------------------------------------------------------


@pytest.mark.parametrize("action", ["terminate", "stop"])
def test_aws_says_when_the_machine_goes(
    aws: tuple[AwsSource, Clock], said: Metadata, action: str
) -> None:
    source, clock = aws
    said.action = {"action": action, "time": zulu(clock.now + 120)}
    notice = ReclaimNotice(clock.now + 120, "aws")
    assert source.poll() == notice
    clock.now += 50
    assert source.poll() == notice


def test_aws_hibernates_at_once(aws: tuple[AwsSource, Clock], said: Metadata) -> None:
    source, clock = aws
    first = clock.now
    said.action = {"action": "hibernate", "time": zulu(clock.now + 120)}
    assert source.poll() == ReclaimNotice(first, "aws")
    clock.now += 5
    assert source.poll() == ReclaimNotice(first, "aws")
    said.action = None
    assert source.poll() is None


def test_aws_renews_its_token_before_its_end(aws: tuple[AwsSource, Clock], said: Metadata) -> None:
    source, clock = aws
    said.ttl_s = 60
    source.poll()
    clock.now += 44
    source.poll()
    assert said.tokens_given == 1
    clock.now += 1
    source.poll()
    assert said.tokens_given == 2


def test_aws_renews_a_token_that_is_refused(aws: tuple[AwsSource, Clock], said: Metadata) -> None:
    source, clock = aws
    source.poll()
    said.tokens.clear()
    said.action = {"action": "stop", "time": zulu(clock.now + 120)}
    assert source.poll() == ReclaimNotice(clock.now + 120, "aws")
    assert said.tokens_given == 2


def test_aws_is_never_asked_without_a_token(aws: tuple[AwsSource, Clock], said: Metadata) -> None:
    source, _ = aws
    said.faults["/latest/api/token"] = "500"
    with pytest.raises(SourceError, match="/latest/api/token responded with 500"):
        source.poll()
    said.faults["/latest/api/token"] = "html"
    with pytest.raises(SourceError, match="token"):
        source.poll()
    assert said.asked == ["PUT /latest/api/token"] * 2


def test_aws_gives_up_a_service_that_refuses_every_token(
    aws: tuple[AwsSource, Clock], said: Metadata, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, _ = aws
    monkeypatch.setattr(said, "tokens", _Forgetful())
    with pytest.raises(SourceError, match="401"):
        source.poll()
    assert len(said.asked) == 4


class _Forgetful(set[str]):
    def add(self, _: str) -> None:
        pass


def test_aws_rebalance_is_a_hint_and_no_notice(
    aws: tuple[AwsSource, Clock], said: Metadata
) -> None:
    source, clock = aws
    assert source.poll() is None
    assert not source.at_risk
    said.rebalance = {"noticeTime": zulu(clock.now)}
    assert source.poll() is None
    assert source.at_risk
    # A fault of the hint is none of the notice.
    for fault in ("500", "html", "junk"):
        said.faults[REBALANCE] = fault
        assert source.poll() is None
        assert source.at_risk
    said.faults.clear()
    said.rebalance = None
    assert source.poll() is None
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
def test_aws_junk_is_no_notice(aws: tuple[AwsSource, Clock], said: Metadata, told: Any) -> None:
    said.action = told
    with pytest.raises(SourceError):
        aws[0].poll()


# --- GCP ------------------------------------------------------------------------------------


def test_gcp_leaves_30_s_from_when_it_was_first_seen(said: Metadata) -> None:
    clock = Clock()
    source = GcpSource(said.url, clock)
    said.preempted = "TRUE"
    notice = ReclaimNotice(clock.now + 30, "gcp")
    assert source.poll() == notice
    clock.now += 7
    said.fault = "500"
    with pytest.raises(SourceError):
        source.poll()
    said.fault = None
    assert source.poll() == notice
    said.preempted = "FALSE"
    assert source.poll() is None
    said.preempted = "TRUE\n"
    assert source.poll() == ReclaimNotice(clock.now + 30, "gcp")
    source.close()


def test_gcp_must_be_google(said: Metadata) -> None:
    source = GcpSource(said.url)
    said.preempted, said.flavor = "TRUE", False
    with pytest.raises(SourceError, match="Metadata-Flavor"):
        source.poll()
    said.flavor = True
    for junk in ("", "true", "1", "TRUE FALSE", HTML):
        said.preempted = junk
        with pytest.raises(SourceError):
            source.poll()
    source.close()


# --- Azure ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["Preempt", "Terminate"])
def test_azure_says_when_the_machine_goes(
    azure: tuple[AzureSource, Clock], said: Metadata, kind: str
) -> None:
    source, clock = azure
    said.events = [
        event("Freeze", formatdate(clock.now + 5, usegmt=True), EventId="1"),
        event(kind, formatdate(clock.now + 30, usegmt=True), EventId="2"),
        event(kind, formatdate(clock.now + 300, usegmt=True), EventId="3"),
    ]
    assert source.poll() == ReclaimNotice(clock.now + 30, "azure")
    source.poll()
    assert said.count("GET /metadata/instance/compute/name") == 1


def test_azure_events_of_others_are_none(azure: tuple[AzureSource, Clock], said: Metadata) -> None:
    said.events = [
        event(Resources=["worker-0", "worker-11"]),
        event("Reboot"),
        event("Redeploy"),
        event(Resources=[]),
    ]
    assert azure[0].poll() is None


@pytest.mark.parametrize("empty", ["", None])
def test_azure_without_a_time_is_at_once(
    azure: tuple[AzureSource, Clock], said: Metadata, empty: object
) -> None:
    source, clock = azure
    said.events = [event(not_before=empty)]
    first = ReclaimNotice(clock.now, "azure")
    assert source.poll() == first
    clock.now += 10
    assert source.poll() == first


def test_azure_that_begins_early_or_late_keeps_the_earlier_time(
    azure: tuple[AzureSource, Clock], said: Metadata
) -> None:
    source, clock = azure
    due = clock.now + 30
    for begun_after_s, expected in ((10, clock.now + 10), (40, due)):
        said.events = [event(not_before=formatdate(due, usegmt=True))]
        assert source.poll() == ReclaimNotice(due, "azure")
        clock.now = due - 30 + begun_after_s
        said.events = [event(EventStatus="Started")]
        assert source.poll() == ReclaimNotice(expected, "azure")
        said.events = []
        assert source.poll() is None
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
def test_azure_junk_is_no_notice(
    azure: tuple[AzureSource, Clock], said: Metadata, events: Any
) -> None:
    said.events = events
    with pytest.raises(SourceError):
        azure[0].poll()


def test_azure_without_its_name_is_no_notice(
    azure: tuple[AzureSource, Clock], said: Metadata
) -> None:
    said.events = [event()]
    for junk in ("", HTML, "two words", "x" * 300):
        said.vm = junk
        with pytest.raises(SourceError, match="name"):
            azure[0].poll()
    said.vm = "WORKER-1"
    assert azure[0].poll() is not None
