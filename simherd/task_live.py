"""A task's files while it runs, read from its machine; afterwards the same calls read what was
saved."""

from __future__ import annotations

import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TextIO

from simherd.config import output_path
from simherd.contract.lifecycle import TABLE, Status
from simherd.contract.live_frames import FileEntry, FileKind
from simherd.errors import ApiError, InvalidInput, SimherdError
from simherd.follow import Follow, Output, Printer
from simherd.task_facts import TaskFacts
from simherd.utils import format_seconds
from simherd.visible import say, visible_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

#: Statuses in which there are no files yet.
_TOO_EARLY = frozenset({Status.PENDING_INPUT, Status.SUBMITTED})


class TaskLive(TaskFacts):
    """What can be seen of a task while it runs."""

    def get_files(self) -> list[FileEntry]:
        """The files and folders of the task's work folder, or those it has put out once it has
        ended: relative names, kinds, bytes, seconds since the epoch."""
        return _entries(self._api.get(f"/v1/tasks/{self.id}/files")["entries"])

    def list_files(self) -> tuple[str | None, int]:
        """Print the task's files as a tree.

        Returns:
            The tree, and 0; or None and 1 where there is none, with a sentence on stderr.
        """
        try:
            found = self._api.get(f"/v1/tasks/{self.id}/files")
        except SimherdError as error:
            self._print_error(error)
            return None, 1
        entries = _entries(found["entries"])
        if not entries and self._too_early():
            return None, 1
        tree = draw_tree(entries)
        if found["truncated"]:
            tree += f"\n… and more than these {len(entries)}"
        say(tree, lines=True)
        return tree, 0

    def _too_early(self) -> bool:
        status = self.get_status()
        if status in _TOO_EARLY:
            say(f"Task {self.id} has no files yet: {TABLE[status].label}.", sys.stderr)
        return status in _TOO_EARLY

    def _print_error(self, error: SimherdError) -> None:
        if not (isinstance(error, ApiError) and self._too_early()):
            say(f"Task {self.id}: {error}", sys.stderr)

    def tail_files(
        self,
        tail_files: list[str],
        lines: int = 10,
        follow: bool = False,
        fout: TextIO | None = None,
        wait: bool = False,
        raw: bool = False,
    ) -> int:
        """Print the last lines of some of the task's files.

        Args:
            tail_files: names relative to the task's work folder.
            lines: how many of each.
            follow: go on with what is added, until the task has ended.
            fout: where to print; by default stdout.
            wait: wait for the task to start, and for files that it has not made yet.
            raw: print control characters as they are on a terminal too; elsewhere they always are.

        Returns:
            0; or 1 where a file could not be shown, with a sentence on stderr.

        Raises:
            InvalidInput: there is no file to tail, or `lines` is negative.
        """
        if not tail_files:
            raise InvalidInput("tail_files: at least one file's name is needed.")
        if lines < 0:
            raise InvalidInput(f"lines: {lines} must not be negative.")
        out = fout or sys.stdout
        if not follow and not wait:
            return self._tail_once(tail_files, lines, Output(out, raw=raw))
        return self._tail_on(tail_files, lines, Output(out, raw=raw), follow=follow, wait=wait)

    def _tail_once(self, names: list[str], lines: int, out: Output) -> int:
        try:
            found = self._api.get(f"/v1/tasks/{self.id}/files/tail", file=names, lines=lines)
        except SimherdError as error:
            self._print_error(error)
            return 1
        if any("code" in row for row in found["files"]) and self._too_early():
            return 1
        code = 0
        for row in found["files"]:
            if "code" in row:
                say(row["detail"], sys.stderr)
                code = 1
                continue
            _title(row["file"], names, out)
            out.write(row["text"] if row["text"].endswith("\n") else row["text"] + "\n")
        return code

    def _tail_on(
        self, names: list[str], lines: int, out: Output, *, follow: bool, wait: bool
    ) -> int:
        if not wait and self._too_early():
            return 1
        printer, code, shown = Printer(out, statuses=False), 0, ""
        missing = set(names)
        self._following = Follow(self._api, self.id, tuple(names), lines, wait=wait)
        for news in self._following:
            if news.kind == "error":
                say(news.body["detail"], sys.stderr)
                missing.discard(news.body.get("file", ""))
                code = 1
            elif news.kind == "text":
                missing.discard(news.body["file"])
                if news.body["file"] != shown:
                    shown = news.body["file"]
                    _title(shown, names, out)
                printer.show(news)
            if not follow and not missing:
                break
        self._following = None
        return code

    _following: Follow | None = None

    async def close_stream(self) -> None:
        """End a `tail_files` that another thread follows with this very object."""
        following = self._following
        if following is not None:
            following.close()

    def top(self) -> str:
        """The processes of the command that runs, as `top` shows them.

        Raises:
            ApiError: none runs (409), or the machine does not respond.
        """
        return str(self._api.get(f"/v1/tasks/{self.id}/top")["text"])

    def get_last_modified(self) -> dict[str, Any]:
        """The file that was written to last: `entry`, and `now`, seconds since the epoch.

        Raises:
            NotFound: there is no file yet.
        """
        found: dict[str, Any] = self._api.get(f"/v1/tasks/{self.id}/files/last-modified")
        return found

    def last_modified_file(self) -> FileEntry | None:
        """Print which file was written to last, and when; None where there is none, with a sentence
        on stderr."""
        try:
            found = self.get_last_modified()
        except SimherdError as error:
            self._print_error(error)
            return None
        (entry,) = _entries([found["entry"]])
        when = datetime.fromtimestamp(entry.modified_at).astimezone()
        ago = format_seconds(max(0.0, found["now"] - entry.modified_at))
        say(f"Most recent file: {entry.name}")
        say(f"Modified at:      {when:%Y-%m-%d %H:%M:%S} ({ago} ago)")
        return entry

    def fetch_file(self, name: str, target: str | Path | None = None) -> Path:
        """Fetch one file as it is now, also while the task runs.

        Args:
            name: relative to the task's work folder.
            target: where to write it; by default below `get_output_dir()`/TASK_ID/live.

        Raises:
            NotFound: there is no such file.
            ApiError: it cannot be had.
            Unreachable: it did not come whole; what was there before stays.
        """
        place = Path(target) if target else output_path(f"{self.id}/live/{name}")
        place.parent.mkdir(parents=True, exist_ok=True)
        part = place.with_name(f".{place.name[:200]}.part")
        try:
            with part.open("wb") as writer:
                self.copy_file(name, writer)
            part.replace(place)
        finally:
            part.unlink(missing_ok=True)
        return place

    def copy_file(self, name: str, out: BinaryIO) -> None:
        """Write one file as it is now to `out`, piece by piece; raises as `fetch_file`."""
        with self._api.download(f"/v1/tasks/{self.id}/files/content", file=name) as pieces:
            for piece in pieces:
                out.write(piece)


def _entries(rows: Iterable[dict[str, Any]]) -> list[FileEntry]:
    return [FileEntry(r["name"], FileKind(r["kind"]), r["size"], r["modified_at"]) for r in rows]


def _title(name: str, names: list[str], out: Output) -> None:
    if len(names) > 1:
        out.write(f"==> {visible_line(name)} <==\n")


def draw_tree(entries: list[FileEntry]) -> str:
    """Files and folders as a tree of lines."""
    tree: dict[str, Any] = {}
    for entry in entries:
        here = tree
        for part in entry.name.split("/"):
            here = here.setdefault(part, {})
    return "\n".join(["Directory contents:", *_branches(tree)])


def _branches(tree: dict[str, Any], indent: str = "") -> Iterator[str]:
    for name, inner in sorted(tree.items()):
        last = name == max(tree)
        yield f"{indent}{'└── ' if last else '├── '}{visible_line(name)}"
        yield from _branches(inner, indent + ("    " if last else "│   "))
