"""The journals that let an agent go on after a crash: one small file per attempt."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from simherd.contract.reports import Report, ReportKind


@dataclass
class JournalEntry:
    """The journal of one attempt: the token of its lease, its specification, its reports in order.

    `boot` identifies the machine's boot in which the attempt was claimed; `notes` are private to
    the agent.
    """

    path: Path
    attempt: str
    token: str
    spec: str
    boot: str
    events: list[Report] = field(default_factory=list)
    notes: dict[str, Any] = field(default_factory=dict)

    @property
    def ended(self) -> bool:
        """Whether the last report ends the attempt."""
        return bool(self.events) and self.events[-1].kind is ReportKind.FINISHED

    @property
    def last(self) -> int:
        """The number of the last report; 0 before the first."""
        return self.events[-1].number if self.events else 0


class Journal:
    """The journals of an executor's attempts, in one folder. A file survives a crash of the agent,
    not one of the machine: its work is lost anyway."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def open(self, attempt: str, token: str, spec: str) -> JournalEntry:
        """Create the journal of a newly claimed attempt."""
        path = self._folder / f"{attempt.replace(':', '-')}.jsonl"
        entry = JournalEntry(path, attempt, token, spec, boot_id())
        head = {"attempt": attempt, "token": token, "spec": spec, "boot": entry.boot}
        path.touch(mode=0o600)
        path.write_text(json.dumps(head) + "\n")
        return entry

    def append(self, entry: JournalEntry, event: Report) -> None:
        """Store a report until it is recorded."""
        with entry.path.open("a") as file:
            file.write(event.encode() + "\n")
        entry.events.append(event)

    def note(self, entry: JournalEntry, **notes: Any) -> None:
        """Store values that only an agent needs; a later value replaces an earlier one."""
        entry.notes |= notes
        with entry.path.open("a") as file:
            file.write(json.dumps({"notes": notes}) + "\n")

    def forget(self, entry: JournalEntry) -> None:
        """Remove the journal of an attempt whose reports are recorded, or not needed."""
        entry.path.unlink(missing_ok=True)

    def left_over(self) -> list[JournalEntry]:
        """Return the journals that an earlier agent left, without a last line that was cut."""
        return [e for p in sorted(self._folder.glob("*.jsonl")) if (e := _load(p)) is not None]


def boot_id() -> str:
    """Return the id of this boot of the machine."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _load(path: Path) -> JournalEntry | None:
    lines = path.read_text().split("\n")[:-1]
    if not lines:
        path.unlink()
        return None
    head = json.loads(lines[0])
    # An earlier release wrote neither: such an attempt cannot be continued.
    spec, boot = head.get("spec", ""), head.get("boot", "")
    entry = JournalEntry(path, head["attempt"], head["token"], spec, boot)
    for line in lines[1:]:
        raw = json.loads(line)
        if "notes" in raw:
            entry.notes |= raw["notes"]
        else:
            entry.events.append(Report.decode(line))
    return entry
