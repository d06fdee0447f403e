"""An attempt whose backend, storage and reports are in memory; only its folders are real."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass, field
from io import BytesIO
from typing import TYPE_CHECKING, Any

from executor.attempt.context import Attempt, RunState
from executor.attempt.deadline import Deadline
from executor.attempt.recovery import Progress, progress_of
from executor.attempt.stop import StopSwitch
from executor.config import Config
from executor.link.connection import Address
from executor.machine.image_cache import ImageCache
from executor.machine.slots import Slot, Slots
from executor.machine.volumes import WatchedDisk
from simherd.contract.attempt_spec import AttemptSpec, Command
from simherd.contract.objects import INPUT_ROOT, MANIFEST, OUTPUT, SYSTEM_METRICS
from simherd.contract.policy import Policy
from simherd.contract.reports import ReportKind
from tests.support.fakes.containers import FakeBackend, FakeEngine, Script
from tests.support.fakes.link import FakeReports
from tests.support.fakes.storage import GRANT, FakeStorage, url_of

if TYPE_CHECKING:
    from pathlib import Path

    from simherd.contract.cause import Cause

KEY = "task:1"


def config_of(state_dir: Path, **fields: Any) -> Config:
    """The settings of a machine with one slot."""
    settings: dict[str, Any] = {
        "redis": Address("redis://nowhere", "", lambda: ""),
        "group_id": "group",
        "executor_id": "m1",
        "executor_name": "machine-1",
        "machine_type": "local",
        "state_dir": state_dir,
        "backend": "process",
        "slots": 1,
        "vcpus": 2,
        "memory_bytes": 1_000_000,
        "reconnect_s": 100,
        "disk_bytes": 0,
        "disk_reserve_bytes": 0,
        "policy": Policy(),
        "machines": 1,
        "mpi": False,
        "stage_ahead": True,
        "spot_notices": "",
    }
    return Config(**(settings | fields))


def spec_of(*commands: Command, **fields: Any) -> AttemptSpec:
    """An attempt with an input archive; without commands it runs `simulate`."""
    return AttemptSpec(
        task_id="task",
        attempt=1,
        image="image",
        commands=commands or (Command(("simulate",)),),
        input_url=url_of("input.zip"),
        output_put_url=url_of(OUTPUT),
        manifest_put_url=url_of(MANIFEST),
        grant=GRANT,
        **fields,
    )


def archive(**files: str) -> bytes:
    """An input archive."""
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w") as made:
        for name, text in files.items():
            made.writestr(f"{INPUT_ROOT}/{name}", text)
    return buffer.getvalue()


@dataclass
class Lab:
    """One machine and what surrounds it. It outlives agents: `attempt` may be called again."""

    folder: Path
    spec: AttemptSpec = field(default_factory=spec_of)
    fields: dict[str, Any] = field(default_factory=dict)
    engine: FakeEngine = field(default_factory=FakeEngine)
    storage: FakeStorage = field(default_factory=FakeStorage)
    reports: FakeReports = field(default_factory=FakeReports)

    def __post_init__(self) -> None:
        (self.folder / "series").mkdir(exist_ok=True)
        self.storage.objects.setdefault("input.zip", archive(case="1"))
        self.engine.programs.setdefault("simulate", Script(output=b"done\n", files={"result": "2"}))
        self.disk = WatchedDisk(self.folder / "disk")
        self.slots = Slots(1)

    def progress(self) -> Progress:
        """How far the attempt got, as a restarted agent reads it."""
        return progress_of(self.reports.of(KEY), self.reports.notes[KEY])

    def attempt(self, *, recovered: bool = False) -> Attempt:
        """The attempt as an agent makes it; `recovered`: one that was restarted."""
        progress = self.progress() if recovered else Progress()
        self.slots.take_now()

        def note(cause: Cause, discard: bool) -> None:
            self.reports.note(KEY, cause=cause.value, discard=discard)

        switch = StopSwitch(note)
        volume = self.disk.make("task-1", self.fields.get("disk_limit", 0))
        if progress.started and not progress.computing:
            volume.close()
            volume = self.disk.make("task-1", 0)
        fields = {k: v for k, v in self.fields.items() if k != "disk_limit"}
        attempt = Attempt(
            state=RunState(self.spec, switch.pause, started_at=progress.started_at),
            config=config_of(self.folder, **fields),
            volume=volume,
            backend=FakeBackend(self.engine),
            reporter=self.reports,
            http=self.storage.client(),
            switch=switch,
            deadline=Deadline(self.spec.warning.before_s, switch.wake),
            slot=Slot(self.slots),
            images=ImageCache(self.folder / "images.json", lambda _: False),
            progress=progress,
        )
        if progress.cause is not None:
            if progress.reclaim_at:
                attempt.reclaim(progress.reclaim_at)
            else:
                switch.trip(progress.cause, discard=progress.discard)
        return attempt

    @property
    def finished(self) -> list[dict[str, Any]]:
        """The bodies of the attempt's last reports; there must be at most one."""
        return [r.body for r in self.reports.of(KEY) if r.kind is ReportKind.FINISHED]

    @property
    def outputs(self) -> list[str]:
        """The files of the stored outputs, apart from those of the executor."""
        with zipfile.ZipFile(BytesIO(self.storage.objects[OUTPUT])) as stored:
            names = {name.partition("/")[2] for name in stored.namelist()}
        return sorted(names - {"", SYSTEM_METRICS})
