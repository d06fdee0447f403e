"""Projects: named sets of tasks."""

from __future__ import annotations

import time
from datetime import datetime
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote

from simherd import config, tasks
from simherd.contract.lifecycle import TABLE, TERMINAL, Status
from simherd.described import Described
from simherd.errors import InvalidInput, NotFound, SimherdError
from simherd.http import api
from simherd.utils import format_money
from simherd.visible import say, visible_line

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from simherd.task import Task

__all__ = ["Project", "get_projects"]


class Project(Described):
    """A named set of tasks.

    Example:
        project = Project("study")
        simulator.run("my-case", project=project.name)
        project.wait()
        project.download_outputs()
    """

    #: What the contract calls this kind of project.
    _type = "project"

    def __init__(self, name: str) -> None:
        """The project of this name; made where there is none.

        Raises:
            InvalidInput: the name is empty.
            ApiError: no project can have this name.
        """
        if not name:
            raise InvalidInput("name: a project's name is needed.")
        try:
            self._fields = api().get(path_of(name))
        except NotFound:
            made = {"name": name, "project_type": self._type}
            self._fields = api().post("/projects", made, repeatable=True)

    @classmethod
    def from_api_info(cls, info: dict[str, Any]) -> Project:
        """A project from the server's description of it."""
        project = cls.__new__(cls)
        project._fields = dict(info)
        return project

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Project) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __str__(self) -> str:
        lines = [
            f"Project {visible_line(repr(self.name))}, made {self.created_at:%d %b %Y, %H:%M}",
            f"  Tasks:  {self.num_tasks}",
            *(f"    {TABLE[s].label}: {count}" for s, count in self.task_by_status.items()),
            f"  Cost:   {format_money(self.total_estimated_cost)}",
        ]
        return "\n".join(lines)

    @property
    def created_at(self) -> datetime:
        """When it was made, in this machine's time zone."""
        return datetime.fromisoformat(self._fields["created_at"]).astimezone()

    @property
    def num_tasks(self) -> int:
        """How many tasks are in it."""
        return int(self._fields["num_tasks"])

    @property
    def task_by_status(self) -> dict[Status, int]:
        """How many of its tasks have each status; a status that none has is left out."""
        return {Status(s): int(n) for s, n in self._fields["task_status_overview"].items()}

    @property
    def estimated_computation_cost(self) -> float:
        """What its tasks held of machines, US$."""
        return float(self._fields["estimated_computation_cost"])

    @property
    def total_task_orchestration_fee(self) -> float:
        """The server's fee for running its tasks, US$; a Simherd server takes none."""
        return float(self._fields["total_orchestration_fee"])

    @property
    def total_estimated_cost(self) -> float:
        """Both together, US$."""
        return self.estimated_computation_cost + self.total_task_orchestration_fee

    def refresh(self) -> Self:
        """Read the project from the server again."""
        self._fields = api().get(path_of(self.name))
        return self

    def add_task(self, task: Task | str) -> None:
        """Move a task, or the one with this id, into the project."""
        self._move(task, "add")

    def remove_task(self, task: Task | str) -> None:
        """Move a task of the project to the default one.

        Raises:
            NotFound: it is in another project.
        """
        self._move(task, "remove")

    def _move(self, task: Task | str, how: str) -> None:
        task_id = task if isinstance(task, str) else task.id
        path = f"{path_of(self.name)}/task/{quote(task_id, safe='')}/{how}"
        api().post(path, repeatable=True)
        self.refresh()

    def get_tasks(self, last_n: int = -1, status: str | None = None) -> list[Task]:
        """The last `last_n` submitted tasks, or all of them where it is 0 or less, newest first.

        Raises:
            InvalidInput: there is no such status.
        """
        return tasks.get_tasks(last_n=last_n, project=self.name, status=status)

    def wait(self, polling_period: float = 5, silent_mode: bool = False) -> Self:
        """Wait until all tasks have ended; Ctrl-C leaves them running.

        Args:
            polling_period: seconds between two looks, of one request each.
            silent_mode: do not print how many have ended.

        Returns:
            The project, whose `task_by_status` says how they ended.
        """
        if not polling_period > 0:
            raise InvalidInput(f"polling_period: {polling_period} must be more than zero.")
        shown = None
        while True:
            counts = self.refresh().task_by_status
            ended = sum(n for s, n in counts.items() if s in TERMINAL)
            if not silent_mode and ended != shown:
                say(f"{ended} of {self.num_tasks} tasks have ended.")
            shown = ended
            if ended == self.num_tasks:
                return self
            time.sleep(polling_period)

    def download_outputs(
        self, output_dir: str | None = None, filenames: Iterable[str] | None = None
    ) -> Path:
        """Download what all tasks have put out, each task's into a folder of its id.

        Args:
            output_dir: where those go, inside `get_output_dir()`; by default the project's name.
            filenames: only these files of each task; tasks without any outputs are left out.

        Returns:
            The folder that holds a folder for each task.

        Raises:
            SimherdError: of some tasks not all could be downloaded; the others' are there.
        """
        folder = output_dir or self.name.replace("/", "_")
        wanted = None if filenames is None else list(filenames)
        failed = []
        for task in self.get_tasks():
            try:
                task.download_outputs(wanted, output_dir=f"{folder}/{task.id}")
            except SimherdError as error:
                failed.append(f"{task.id}: {error}")
        if failed:
            raise SimherdError("Not everything could be downloaded:\n  " + "\n  ".join(failed))
        return config.output_path(folder)

    def get_metadata(self) -> dict[str, str]:
        """What was set with `set_metadata`."""
        return dict(api().get(f"{path_of(self.name)}/metadata"))

    def set_metadata(self, metadata: dict[str, str]) -> None:
        """Replace the texts that are kept with the project."""
        api().put(f"{path_of(self.name)}/metadata", metadata)

    def delete(self) -> None:
        """Delete the project; its tasks move to the default one.

        Raises:
            ApiError: it is the default one.
        """
        api().delete("/projects", project_name=self.name)


def path_of(name: str) -> str:
    """Where a project is, in the HTTP contract."""
    return f"/projects/{quote(name, safe='')}"


def get_projects() -> list[Project]:
    """The user's projects, newest first."""
    return [Project.from_api_info(row) for row in api().get("/projects")]


def require(name: str) -> Project:
    """The project of this name, which has to be there.

    Raises:
        NotFound: there is none.
    """
    return Project.from_api_info(api().get(path_of(name)))
