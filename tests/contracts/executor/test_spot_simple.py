"""Notices that an operator's own means give: a URL, or a file."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

from executor.spot.notice import ReclaimNotice, SourceError
from executor.spot.parse import FARTHEST_S
from executor.spot.simple import FileSource, HttpSource
from tests.support.metadata import HTML, Clock, Metadata

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


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
    assert source.poll() is None
    said.plain = (200, json.dumps({"reclaim_at": clock.now + 50.5}))
    assert source.poll() == ReclaimNotice(clock.now + 50.5, f"{said.url}/notice")


def test_a_url_may_say_in_how_many_seconds(plain: tuple[HttpSource, Clock], said: Metadata) -> None:
    source, clock = plain
    due = clock.now + 60
    said.plain = (200, '{"in_s": 60}')
    assert source.poll() == ReclaimNotice(due, source.name)
    clock.now += 20
    assert source.poll() == ReclaimNotice(due, source.name)
    said.plain = (200, '{"in_s": 40}')
    assert source.poll() == ReclaimNotice(due, source.name)
    said.plain = (404, "")
    assert source.poll() is None
    said.plain = (200, '{"in_s": 40}')
    clock.now += 20
    assert source.poll() == ReclaimNotice(clock.now + 40, source.name)


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
        plain[0].poll()


@pytest.mark.parametrize("status", [201, 304, 401, 403, 503])
def test_other_answers_of_a_url_are_errors(
    plain: tuple[HttpSource, Clock], said: Metadata, status: int
) -> None:
    said.plain = (status, "")
    with pytest.raises(SourceError, match=str(status)):
        plain[0].poll()


def test_an_error_does_not_tell_the_secrets_of_a_url(said: Metadata) -> None:
    source = HttpSource(said.url.replace("//", "//me:hidden@") + "/notice?key=hidden")
    for fault in ("500", "html", "cut", "redirect", "long"):
        said.fault = fault
        with pytest.raises(SourceError) as raised:
            source.poll()
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
    assert source.poll() is None
    for text, expected in (
        ("", clock.now - 5 + 120),
        ("\n", clock.now - 5 + 120),
        ('{"in_s": 20}', clock.now - 5 + 20),
        (json.dumps({"reclaim_at": clock.now + 7}), clock.now + 7),
    ):
        _write(path, text, clock.now - 5)
        assert source.poll() == ReclaimNotice(expected, path.as_uri())
    path.unlink()
    assert source.poll() is None
    assert FileSource(path / "below").poll() is None


@pytest.mark.parametrize("text", [*JUNK, " " * 100_000])
def test_junk_in_a_file_is_no_notice(
    notice_file: tuple[FileSource, Path, Clock], text: str
) -> None:
    source, path, clock = notice_file
    _write(path, text, clock.now)
    with pytest.raises(SourceError):
        source.poll()


def test_a_file_of_long_ago_is_no_notice(notice_file: tuple[FileSource, Path, Clock]) -> None:
    source, path, clock = notice_file
    _write(path, "", clock.now - FARTHEST_S - 121)
    with pytest.raises(SourceError, match="not believable"):
        source.poll()


def test_what_is_no_file_is_no_notice(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\x00")
    open_files = len(os.listdir("/proc/self/fd"))
    for path in (tmp_path, tmp_path / "pipe", tmp_path / "bytes"):
        with pytest.raises(SourceError):
            FileSource(path).poll()
    assert len(os.listdir("/proc/self/fd")) == open_files
