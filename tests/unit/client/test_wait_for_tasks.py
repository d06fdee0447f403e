"""Waiting for tasks: one stream of changes, opened again where it broke."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from simherd import tasks
from simherd.contract import limits
from simherd.contract.lifecycle import Status
from simherd.errors import ApiError, InvalidInput, NotFound, Unreachable, WaitTimeout
from simherd.task import Task

if TYPE_CHECKING:
    from collections.abc import Iterator


class Server:
    """Streams what each call of `events` is to get: events, and errors to raise after them."""

    def __init__(self, *streams: list[Any]) -> None:
        self.streams = list(streams)
        self.bodies: list[dict[str, Any]] = []

    @contextmanager
    def events(self, _method: str, _path: str, body: dict[str, Any]) -> Iterator[Iterator[Any]]:
        self.bodies.append(body)
        yield self._events(self.streams.pop(0))

    def _events(self, stream: list[Any]) -> Iterator[Any]:
        for step in stream:
            if isinstance(step, Exception):
                raise step
            yield step


def state(task: str, status: Status) -> tuple[str, dict[str, str]]:
    return "state", {"task_id": task, "status": status.value}


END: tuple[str, dict[str, str]] = ("end", {})
BROKEN = Unreachable("The connection broke.")


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    found: list[float] = []
    monkeypatch.setattr("simherd.waiting.time.sleep", found.append)
    return found


def wait(monkeypatch: pytest.MonkeyPatch, server: Server, *ids: str, **more: Any) -> list[Status]:
    monkeypatch.setattr(tasks, "api", lambda: server)
    return tasks.wait([Task(i) for i in ids], **more)


def test_statuses_are_in_the_order_of_the_tasks(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    server = Server([state("b", Status.FAILED), state("a", Status.SUCCESS), END])
    assert wait(monkeypatch, server, "a", "b", "a") == [
        Status.SUCCESS,
        Status.FAILED,
        Status.SUCCESS,
    ]
    assert server.bodies == [{"ids": ["a", "b"], "seconds": None}]
    assert capsys.readouterr().out.splitlines()[0].startswith("1/2  b  ")


def test_a_silent_wait_prints_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wait(monkeypatch, Server([state("a", Status.SUCCESS), END]), "a", silent_mode=True)
    assert capsys.readouterr().out == ""


def test_a_broken_stream_is_opened_again(
    monkeypatch: pytest.MonkeyPatch, waits: list[float]
) -> None:
    server = Server(
        [BROKEN],
        [ApiError("starting", 503)],
        [],  # ends without an end
        [state("a", Status.SUCCESS), END],
    )
    assert wait(monkeypatch, server, "a") == [Status.SUCCESS]
    assert waits == [0.2, 0.4, 0.8]


def test_a_stream_that_worked_begins_its_waits_again(
    monkeypatch: pytest.MonkeyPatch, waits: list[float]
) -> None:
    busy = state("a", Status.STARTED)
    wait(monkeypatch, Server([BROKEN], [busy, BROKEN], [state("a", Status.SUCCESS), END]), "a")
    assert waits == [0.2, 0.2]


def test_an_unknown_task_is_final(monkeypatch: pytest.MonkeyPatch, waits: list[float]) -> None:
    with pytest.raises(NotFound):
        wait(monkeypatch, Server([NotFound("There is no task.", 404)]), "a")
    assert waits == []


def test_a_timeout_names_the_tasks_that_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server([state("a", Status.SUCCESS), state("b", Status.STARTED), END])
    with pytest.raises(WaitTimeout, match="1 of 2 tasks") as missing:
        wait(monkeypatch, server, "a", "b", timeout=0)
    assert missing.value.task_ids == ["b"]
    assert server.bodies[0]["seconds"] == 0


@pytest.mark.parametrize("timeout", [-1, float("nan")])
def test_a_timeout_is_not_negative(monkeypatch: pytest.MonkeyPatch, timeout: float) -> None:
    with pytest.raises(InvalidInput, match=r"^timeout: .* must not be negative"):
        wait(monkeypatch, Server(), "a", timeout=timeout)


def test_many_tasks_are_asked_for_in_several_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_WAITED", 2)
    ids = [f"t{n}" for n in range(5)]
    server = Server(
        *([*(state(i, Status.SUCCESS) for i in ids[n : n + 2]), END] for n in (0, 2, 4))
    )
    assert wait(monkeypatch, server, *ids, silent_mode=True) == [Status.SUCCESS] * 5
    assert [len(body["ids"]) for body in server.bodies] == [2, 2, 1]


def test_no_tasks_need_no_request(monkeypatch: pytest.MonkeyPatch) -> None:
    assert wait(monkeypatch, Server()) == []
