"""Each source of notices against scripted answers: what is a notice, and what is an error."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from executor.spot.aws import AwsSource
from executor.spot.azure import AzureSource
from executor.spot.gcp import GcpSource
from executor.spot.notice import ReclaimNotice, SourceError
from executor.spot.parse import text_of
from executor.spot.simple import FileSource, HttpSource

if TYPE_CHECKING:
    import os
    from collections.abc import Callable
    from pathlib import Path

#: 2026-01-01T00:00:00Z, seconds since the epoch.
NOW = 1_767_225_600.0
BASE = "http://service"


class Service:
    """Answers each path, without its query, with what is set for it; else with 404."""

    def __init__(self, **answers: tuple[int, str]) -> None:
        self.answers = answers
        self.headers: dict[str, str] = {}
        self.requests: list[httpx.Request] = []
        self.now = NOW

    def clock(self) -> float:
        return self.now

    def transport(self) -> httpx.MockTransport:
        return httpx.MockTransport(self._answer)

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        last = request.url.path.rpartition("/")[2].replace("-", "_") or "root"
        status, text = self.answers.get(last, (404, ""))
        return httpx.Response(status, text=text, headers=self.headers)

    def paths(self) -> list[str]:
        return [request.url.path.rpartition("/")[2] for request in self.requests]


# --- Google ------------------------------------------------------------------------------------


def gcp(service: Service) -> GcpSource:
    return GcpSource(BASE, service.clock, service.transport())


def test_gcp_gives_thirty_seconds_from_when_it_was_first_seen() -> None:
    service = Service(preempted=(200, "TRUE\n"))
    service.headers = {"Metadata-Flavor": "Google"}
    source = gcp(service)
    for service.now in (NOW, NOW + 10):
        assert source.poll() == ReclaimNotice(NOW + 30, "gcp")
    service.answers["preempted"] = (200, "FALSE")
    assert source.poll() is None
    service.answers["preempted"] = (200, "TRUE")
    assert source.poll() == ReclaimNotice(NOW + 40, "gcp")
    source.close()


@pytest.mark.parametrize(
    ("status", "text", "flavor"),
    [
        (200, "true", "Google"),
        (200, "", "Google"),
        (200, "TRUE", None),
        (200, "TRUE", "google"),
        (404, "", "Google"),
        (503, "TRUE", "Google"),
        (302, "TRUE", "Google"),
    ],
)
def test_gcp_takes_nothing_else_for_a_notice(status: int, text: str, flavor: str | None) -> None:
    service = Service(preempted=(status, text))
    service.headers = {"Metadata-Flavor": flavor} if flavor else {}
    with pytest.raises(SourceError):
        gcp(service).poll()


# --- Amazon ------------------------------------------------------------------------------------


def aws(service: Service) -> AwsSource:
    service.answers.setdefault("token", (200, "t0ken"))
    return AwsSource(BASE, service.clock, service.transport())


def action(kind: str = "terminate", time: str = "2026-01-01T00:02:00Z") -> tuple[int, str]:
    return 200, json.dumps({"action": kind, "time": time})


@pytest.mark.parametrize("kind", ["terminate", "stop"])
def test_aws_says_when_the_machine_goes(kind: str) -> None:
    service = Service(instance_action=action(kind))
    assert aws(service).poll() == ReclaimNotice(NOW + 120, "aws")


def test_aws_hibernates_at_once_whatever_time_is_given() -> None:
    service = Service(instance_action=action("hibernate"))
    source = aws(service)
    for service.now in (NOW, NOW + 5):
        assert source.poll() == ReclaimNotice(NOW, "aws")


@pytest.mark.parametrize(
    "answer",
    [
        (200, ""),
        (200, "[]"),
        (200, json.dumps({"action": "terminate"})),
        (200, json.dumps({"time": "2026-01-01T00:02:00Z"})),
        action("reboot"),
        action(time="tomorrow"),
        action(time="2026-01-01T00:02:00"),
        action(time="2036-01-01T00:02:00Z"),
        (500, ""),
        (403, ""),
    ],
)
def test_aws_takes_nothing_else_for_a_notice(answer: tuple[int, str]) -> None:
    with pytest.raises(SourceError):
        aws(Service(instance_action=answer)).poll()


@pytest.mark.parametrize("token", [(200, ""), (200, "two words"), (200, "x" * 2000), (403, "t")])
def test_aws_without_a_token_asks_nothing_else(token: tuple[int, str]) -> None:
    service = Service(token=token, instance_action=action())
    with pytest.raises(SourceError):
        aws(service).poll()
    assert service.paths() == ["token"]


@pytest.mark.parametrize(("passed_s", "tokens"), [(0, 1), (21_584, 1), (21_586, 2)])
def test_aws_renews_its_token_before_it_ends(passed_s: float, tokens: int) -> None:
    service = Service()
    source = aws(service)
    assert source.poll() is None
    service.now += passed_s
    assert source.poll() is None
    assert service.paths().count("token") == tokens


def test_aws_renews_a_token_once_that_the_service_has_lost() -> None:
    service = Service(instance_action=(401, ""))
    with pytest.raises(SourceError):
        aws(service).poll()
    assert service.paths() == ["token", "instance-action", "token", "instance-action"]


@pytest.mark.parametrize(
    ("answer", "at_risk"),
    [
        ((200, json.dumps({"noticeTime": "2026-01-01T00:00:00Z"})), True),
        ((404, ""), False),
        ((200, "junk"), False),
        ((500, ""), False),
    ],
)
def test_aws_hints_early_and_a_hint_that_fails_does_no_harm(
    answer: tuple[int, str], at_risk: bool
) -> None:
    source = aws(Service(rebalance=answer))
    assert source.poll() is None
    assert source.at_risk is at_risk


# --- Azure -------------------------------------------------------------------------------------


def azure(service: Service) -> AzureSource:
    service.answers.setdefault("name", (200, "Worker-1\n"))
    return AzureSource(BASE, service.clock, service.transport())


def events(*items: Any) -> tuple[int, str]:
    return 200, json.dumps({"Events": list(items)})


def event(**changes: Any) -> dict[str, Any]:
    return {
        "EventId": "e1",
        "EventType": "Preempt",
        "Resources": ["worker-0", "worker-1"],
        "NotBefore": "Thu, 01 Jan 2026 00:00:30 GMT",
        **changes,
    }


@pytest.mark.parametrize("kind", ["Preempt", "Terminate"])
def test_azure_says_when_the_machine_goes(kind: str) -> None:
    service = Service(scheduledevents=events(event(EventType=kind)))
    assert azure(service).poll() == ReclaimNotice(NOW + 30, "azure")


@pytest.mark.parametrize(
    "items",
    [
        [],
        [event(EventType="Freeze")],
        [event(EventType="Reboot")],
        [event(Resources=["worker-2"])],
        [event(Resources=[])],
    ],
)
def test_azure_leaves_out_what_does_not_take_this_machine(items: list[Any]) -> None:
    assert azure(Service(scheduledevents=events(*items))).poll() is None


def test_azure_returns_the_first_of_several() -> None:
    later = event(EventId="e2", NotBefore="Thu, 01 Jan 2026 00:05:00 GMT")
    service = Service(scheduledevents=events(later, event()))
    assert azure(service).poll() == ReclaimNotice(NOW + 30, "azure")


@pytest.mark.parametrize("not_before", ["", None])
def test_azure_remembers_when_an_event_that_has_begun_was_due(not_before: str | None) -> None:
    service = Service(scheduledevents=events(event()))
    source = azure(service)
    source.poll()
    service.now += 60
    service.answers["scheduledevents"] = events(event(NotBefore=not_before))
    assert source.poll() == ReclaimNotice(NOW + 30, "azure")
    other = event(EventId="e2", NotBefore=not_before)
    service.answers["scheduledevents"] = events(other)
    assert source.poll() == ReclaimNotice(NOW + 60, "azure")


@pytest.mark.parametrize(
    "answer",
    [
        (200, "{}"),
        (200, '{"Events": {}}'),
        events("text"),
        events(event(Resources="worker-1")),
        events(event(EventType=7)),
        events(event(EventId=None)),
        events(event(NotBefore="soon")),
        events(event(NotBefore="Thu, 01 Jan 2036 00:00:30 GMT")),
        events({k: v for k, v in event().items() if k != "NotBefore"}),
        (500, ""),
    ],
)
def test_azure_takes_nothing_else_for_a_notice(answer: tuple[int, str]) -> None:
    with pytest.raises(SourceError):
        azure(Service(scheduledevents=answer)).poll()


@pytest.mark.parametrize("name", [(200, ""), (200, "<html>"), (200, "x" * 300), (404, "")])
def test_azure_needs_the_machines_name_first(name: tuple[int, str]) -> None:
    service = Service(name=name, scheduledevents=events(event()))
    with pytest.raises(SourceError):
        azure(service).poll()
    assert service.paths() == ["name"]


# --- a URL, a file -----------------------------------------------------------------------------


def plain(service: Service) -> HttpSource:
    return HttpSource(f"{BASE}/notice", service.clock, service.transport())


@pytest.mark.parametrize("status", [404, 204])
def test_a_url_without_a_notice(status: int) -> None:
    assert plain(Service(notice=(status, ""))).poll() is None


@pytest.mark.parametrize(
    ("fields", "reclaim_at"),
    [({"reclaim_at": NOW + 50.5}, NOW + 50.5), ({"in_s": 40}, NOW + 40), ({"in_s": 0}, NOW)],
)
def test_a_url_with_a_notice(fields: dict[str, float], reclaim_at: float) -> None:
    assert plain(Service(notice=(200, json.dumps(fields)))).poll() == ReclaimNotice(
        reclaim_at, f"{BASE}/notice"
    )


JUNK: list[str] = [
    "",
    "<html>",
    "{}",
    '{"in_s": -1}',
    '{"in_s": 1e9}',
    '{"in_s": true}',
    '{"in_s": "5"}',
    '{"in_s": 5, "reclaim_at": 5}',
    '{"reclaim_at": 5}',
    '{"reclaim_at": null}',
    '{"in_s": 5, "more": 1}',
]


@pytest.mark.parametrize("text", JUNK)
def test_a_url_with_junk_is_an_error(text: str) -> None:
    with pytest.raises(SourceError):
        plain(Service(notice=(200, text))).poll()


@pytest.mark.parametrize("text", [text for text in JUNK if text])
def test_a_file_with_junk_is_an_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "notice").write_text(text)
    with pytest.raises(SourceError):
        FileSource(tmp_path / "notice", lambda: NOW).poll()


def _folder(path: Path) -> None:
    path.mkdir()


def _fifo(path: Path) -> None:
    from os import mkfifo

    mkfifo(path)


def _large(path: Path) -> None:
    path.write_text("x" * 100_000)


def _not_text(path: Path) -> None:
    path.write_bytes(b"\xff\xfe")


@pytest.mark.parametrize("make", [_folder, _fifo, _large, _not_text])
def test_a_path_that_is_not_a_notice_file_is_an_error_without_blocking(
    tmp_path: Path, make: Callable[[os.PathLike[str]], None]
) -> None:
    make(tmp_path / "notice")
    with pytest.raises(SourceError):
        FileSource(tmp_path / "notice").poll()


@pytest.mark.parametrize(
    "error", [httpx.ConnectError(""), httpx.ReadTimeout("late"), httpx.RemoteProtocolError("cut")]
)
def test_an_error_never_shows_the_url(error: Exception) -> None:
    def fail(_request: httpx.Request) -> httpx.Response:
        raise error

    source = HttpSource("http://user:secret@host/notice", transport=httpx.MockTransport(fail))
    with pytest.raises(SourceError) as raised:
        source.poll()
    assert "secret" not in str(raised.value)
    assert type(error).__name__ in str(raised.value)


@pytest.mark.parametrize("value", [None, 5, True, [], {}])
def test_what_is_not_text_is_an_error(value: object) -> None:
    with pytest.raises(SourceError, match="is not text"):
        text_of({"field": value}, "field")
