"""What was reported and is not known to stand in SQL yet: one small file an attempt."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from simherd.contract.events import Event, Kind

if TYPE_CHECKING:
    from pathlib import Path


@dataclass
class Entry:
    """One attempt's journal: its lease's token and its events in order."""

    path: Path
    attempt: str
    token: str
    events: list[Event]

    @property
    def ended(self) -> bool:
        """Whether the attempt's last event ends it."""
        return bool(self.events) and self.events[-1].kind is Kind.FINISHED

    @property
    def last(self) -> int:
        """Number of the last event; 0 before the first."""
        return self.events[-1].number if self.events else 0


class Journal:
    """The journals of an executor's attempts, in one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def open(self, attempt: str, token: str) -> Entry:
        """Begin the journal of a newly claimed attempt."""
        path = self._folder / f"{attempt.replace(':', '-')}.jsonl"
        path.write_text(json.dumps({"attempt": attempt, "token": token}) + "\n")
        return Entry(path, attempt, token, [])

    def append(self, entry: Entry, event: Event) -> None:
        """Keep an event until it is recorded.

        The file survives a crash of the agent, not of the machine: what a machine that
        crashed did is lost anyway.
        """
        with entry.path.open("a") as file:
            file.write(event.encode() + "\n")
        entry.events.append(event)

    def forget(self, entry: Entry) -> None:
        """Drop an attempt's journal: all of it stands in SQL, or nobody wants it."""
        entry.path.unlink(missing_ok=True)

    def left_over(self) -> list[Entry]:
        """The journals that an earlier agent left. A torn last line is as if never written."""
        return [e for p in sorted(self._folder.glob("*.jsonl")) if (e := _load(p)) is not None]


def _load(path: Path) -> Entry | None:
    lines = path.read_text().split("\n")[:-1]
    if not lines:
        path.unlink()
        return None
    head = json.loads(lines[0])
    return Entry(path, head["attempt"], head["token"], [Event.decode(t) for t in lines[1:]])
