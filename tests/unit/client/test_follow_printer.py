"""What is printed of a task that is followed."""

from __future__ import annotations

import io
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from simherd.contract.lifecycle import TABLE, Status
from simherd.contract.objects import COMMAND_MARK, STDERR, STDOUT
from simherd.errors import ApiError, Unreachable
from simherd.follow import Follow, FollowUpdate, Output, Printer

if TYPE_CHECKING:
    from collections.abc import Iterator


def printed(*updates: FollowUpdate, statuses: bool = True, end: Status | None = None) -> str:
    out = io.StringIO()
    printer = Printer(Output(out), statuses=statuses)
    for update in updates:
        printer.show(update)
    if end is not None:
        printer.ended(end, "All is stored.")
    return out.getvalue()


def text(file: str, content: str, **more: Any) -> FollowUpdate:
    return FollowUpdate("text", {"file": file, "text": content, **more})


def test_statuses_and_positions_are_separate_lines() -> None:
    status = {"status": Status.STARTED.value, "description": "On m-1."}
    assert printed(
        FollowUpdate("position", {"tasks_ahead": 3}), FollowUpdate("status", status)
    ).splitlines() == [
        "■   tasks ahead in the queue: 3",
        f"■ {TABLE[Status.STARTED].label}: On m-1.",
    ]


def test_without_statuses_only_text_is_printed() -> None:
    status = FollowUpdate("status", {"status": Status.STARTED.value, "description": ""})
    shown = printed(status, text(STDOUT, "a\n"), statuses=False, end=Status.SUCCESS)
    assert shown == "a\n"


def test_an_unknown_kind_is_not_printed() -> None:
    assert printed(FollowUpdate("end", {}), FollowUpdate("error", {})) == ""


def test_text_that_was_left_out_is_counted() -> None:
    assert (
        printed(text(STDOUT, "z\n", skipped=12))
        == "■ 12 bytes of stdout.txt are left out here\nz\n"
    )


@pytest.mark.parametrize(
    ("pieces", "shown"),
    [
        ([f"{COMMAND_MARK} ./solve\n", "warning\n"], "warning\n"),
        ([COMMAND_MARK[:1], f"{COMMAND_MARK[1:]} ./solve\n", "warning\n"], "warning\n"),
        (["half a ", "line\n"], "half a line\n"),
        (["a\nb"], "a\nb"),
        ([f"a {COMMAND_MARK} in a line\n"], f"a {COMMAND_MARK} in a line\n"),
    ],
)
def test_stderr_is_shown_without_the_lines_that_name_commands(
    pieces: list[str], shown: str
) -> None:
    assert printed(*(text(STDERR, piece) for piece in pieces)) == shown


def test_an_unfinished_mark_is_printed_at_the_end() -> None:
    begun = COMMAND_MARK[:1]
    assert printed(text(STDERR, begun), statuses=False, end=Status.SUCCESS) == begun


class Server:
    """Streams these events to one call of `events` after the other."""

    def __init__(self, *streams: list[Any] | Exception) -> None:
        self.streams = list(streams)
        self.asked: list[dict[str, Any]] = []

    @contextmanager
    def events(self, _method: str, _path: str, **params: Any) -> Iterator[Iterator[Any]]:
        self.asked.append(params)
        stream = self.streams.pop(0)
        if isinstance(stream, Exception):
            raise stream
        yield iter(stream)


def followed(monkeypatch: pytest.MonkeyPatch, server: Server) -> list[FollowUpdate]:
    monkeypatch.setattr("simherd.follow.time.sleep", lambda _seconds: None)
    return list(Follow(server, "task", (STDOUT,)))  # type: ignore[arg-type]


def piece(content: str, offset: int, attempt: int = 1) -> tuple[str, dict[str, Any]]:
    return "text", {"file": STDOUT, "text": content, "offset": offset, "attempt": attempt}


def test_a_broken_stream_resumes_at_its_offset(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server([piece("ab", 2)], Unreachable("broken"), [piece("c", 3), ("end", {})])
    updates = followed(monkeypatch, server)
    assert [u.body["text"] for u in updates[:-1]] == ["ab", "c"]
    assert [asked["offset"] for asked in server.asked] == [[], [2], [2]]
    assert [asked["attempt"] for asked in server.asked] == [0, 1, 1]


def test_a_status_is_reported_once(monkeypatch: pytest.MonkeyPatch) -> None:
    status = ("status", {"status": "started", "attempt": 1})
    again = ("status", {"status": "started", "attempt": 2})
    server = Server([status], [status, again, ("end", {})])
    assert [u.body.get("attempt") for u in followed(monkeypatch, server)] == [1, 2, None]


def test_a_refusal_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ApiError):
        followed(monkeypatch, Server(ApiError("There is no task.", 404)))


def test_a_closed_one_is_not_opened_again() -> None:
    follow = Follow(Server(), "task")  # type: ignore[arg-type]
    follow.close()
    assert list(follow) == []
