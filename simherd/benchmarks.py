"""Benchmarks: the same simulations on several machine types, side by side."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

from simherd import resources
from simherd.errors import ApiError, InvalidInput
from simherd.http import api
from simherd.projects import Project, path_of
from simherd.task import to_status

if TYPE_CHECKING:
    from collections.abc import Mapping

    from simherd.resources import MachineGroup
    from simherd.simulators import Simulator

__all__ = ["Benchmark", "ExportFormat", "SelectMode"]

#: Statuses of a refused termination: the group is another user's, or is ending already.
_NOT_TO_BE_TERMINATED = frozenset({404, 409})


class ExportFormat(Enum):
    """What `Benchmark.export` writes."""

    JSON = "json"
    CSV = "csv"


class SelectMode(Enum):
    """Which parameters `Benchmark.export` writes: all, or those that differ between tasks."""

    ALL = "all"
    DISTINCT = "distinct"


_Choice = TypeVar("_Choice", ExportFormat, SelectMode)


@dataclass(frozen=True)
class _Run:
    simulator: Simulator
    input_dir: str | Path | None
    on: MachineGroup | str | None
    more: Mapping[str, Any]


class Benchmark(Project):
    """A project that submits the same simulations again and again, and compares them.

    Example:
        benchmark = Benchmark("machines").set_default(simulator, "my-case", commands=["./solve"])
        for machine_type in ("c2-standard-4", "c2-standard-8"):
            benchmark.add_run(on=MachineGroup(machine_type))
        benchmark.run(num_repeats=3).wait()
        benchmark.export("csv")
        benchmark.terminate()
    """

    _type = "benchmark"

    def __init__(self, name: str) -> None:
        """The benchmark of this name; made where there is none."""
        super().__init__(name)
        self._runs: list[_Run] = []
        self._simulator: Simulator | None = None
        self._input_dir: str | Path | None = None
        self._on: MachineGroup | str | None = None
        self._more: dict[str, Any] = {}

    def set_default(
        self,
        simulator: Simulator | None = None,
        input_dir: str | Path | None = None,
        on: MachineGroup | str | None = None,
        **more: Any,
    ) -> Self:
        """Choose what later runs have where they do not say; None leaves it as it was.

        Args:
            simulator: as for `add_run`.
            input_dir: as for `add_run`.
            on: as for `add_run`.
            more: further arguments of the simulator's `run()`.
        """
        self._simulator = simulator or self._simulator
        self._input_dir = input_dir or self._input_dir
        self._on = on or self._on
        self._more |= more
        return self

    def add_run(
        self,
        simulator: Simulator | None = None,
        input_dir: str | Path | None = None,
        on: MachineGroup | str | None = None,
        **more: Any,
    ) -> Self:
        """Note a simulation; `run` submits it.

        Args:
            simulator: what runs.
            input_dir: the folder of inputs.
            on: the machine group, or its name.
            more: further arguments of the simulator's `run()`.

        Raises:
            InvalidInput: there is no simulator, here or as a default.
        """
        chosen = simulator or self._simulator
        if chosen is None:
            raise InvalidInput("simulator: name one here or with `set_default`.")
        run = _Run(chosen, input_dir or self._input_dir, on or self._on, {**self._more, **more})
        self._runs.append(run)
        return self

    def run(self, num_repeats: int = 2, wait_for_quotas: bool = True) -> Self:
        """Start the machine groups and submit every noted simulation; then none is noted.

        Args:
            num_repeats: how often each is submitted.
            wait_for_quotas: wait with a group until the user's quotas have room for it.

        Raises:
            InvalidInput: `num_repeats` is less than one.
        """
        if num_repeats < 1:
            raise InvalidInput(f"num_repeats: {num_repeats} must be at least 1.")
        while self._runs:
            run = self._runs[0]
            group = resources.look_up(run.on)
            if not group.started:
                group.start(wait_for_quotas=wait_for_quotas)
            for _ in range(num_repeats):
                run.simulator.run(
                    run.input_dir,
                    on=group,
                    project=self.name,
                    resubmit_on_preemption=True,
                    **run.more,
                )
            # What was submitted is not submitted again where a later one fails.
            self._runs.pop(0)
        self.refresh()
        return self

    def export(
        self,
        fmt: ExportFormat | str = ExportFormat.JSON,
        filename: str | Path | None = None,
        status: str | None = None,
        select: SelectMode | str = SelectMode.DISTINCT,
    ) -> Path:
        """Write a row for each task: what it was run with, how long it took, what it cost.

        Args:
            fmt: `json` or `csv`.
            filename: where to; by default the benchmark's name.
            status: only tasks with this status.
            select: `all` parameters, or those that are `distinct` between tasks.

        Returns:
            The file.

        Raises:
            InvalidInput: there is no such format, status or selection.
        """
        form = _choice(ExportFormat, "fmt", fmt)
        rows = api().get(
            f"{path_of(self.name)}/tasks_info",
            select=_choice(SelectMode, "select", select).value,
            status=None if status is None else to_status(status).value,
        )
        target = Path(filename or self.name.replace("/", "_"))
        if target.suffix != f".{form.value}":
            target = target.with_name(f"{target.name}.{form.value}")
        with target.open("w", encoding="utf-8", newline="") as file:
            if form is ExportFormat.JSON:
                json.dump(rows, file, indent=4)
            elif rows:
                writer = csv.DictWriter(file, list(rows[0]))
                writer.writeheader()
                writer.writerows(rows)
        return target

    def terminate(self) -> Self:
        """Terminate the user's machine groups that the tasks were sent to."""
        used = {task.info["machine_group_id"] for task in self.get_tasks()}
        for group in resources.get():
            if group.id not in used:
                continue
            try:
                group.terminate()
            except ApiError as error:
                if error.status not in _NOT_TO_BE_TERMINATED:
                    raise
        return self


def _choice(kind: type[_Choice], name: str, given: _Choice | str) -> _Choice:
    try:
        return given if isinstance(given, kind) else kind(str(given).lower())
    except ValueError:
        known = ", ".join(member.value for member in kind)
        raise InvalidInput(f"{name}: there is no {given!r}. There are: {known}.") from None
