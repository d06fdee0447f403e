"""One task, and everything that can be done with it."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from simherd.contract import limits
from simherd.contract.lifecycle import TABLE, TERMINAL, Status
from simherd.contract.objects import STDERR, STDOUT
from simherd.contract.operations import Metric
from simherd.errors import ApiError, InvalidInput
from simherd.follow import STD_FILES, Follow, Output, Printer
from simherd.info import TaskInfo
from simherd.task_files import TaskFiles
from simherd.task_live import TaskLive
from simherd.utils import parse_duration
from simherd.visible import say
from simherd.waiting import changes

if TYPE_CHECKING:
    from collections.abc import Iterator


def to_status(text: str) -> Status:
    """The status with this wire value.

    Raises:
        InvalidInput: there is none.
    """
    try:
        return Status(text)
    except ValueError:
        known = ", ".join(s.value for s in Status)
        raise InvalidInput(f"status: there is no {text!r}. There are: {known}.") from None


class Task(TaskFiles, TaskLive):
    """A submitted simulation.

    Example:
        task = simulator.run(input_dir="my-case", on="local")
        task.wait()
        task.download_outputs(filenames=["stdout.txt"])
    """

    def wait(
        self,
        polling_period: float = 1,
        silent_mode: bool = False,
        download_std_on_completion: bool = True,
    ) -> Status:
        """Wait until the task has ended; Ctrl-C leaves it running.

        Args:
            polling_period: has no effect: the server reports each change as it happens.
            silent_mode: do not print status and log lines.
            download_std_on_completion: then download stdout.txt and stderr.txt.
        """
        info = self._follow(polling_period, silent_mode, until=None)
        if download_std_on_completion and info.metric(Metric.OUTPUT_TOTAL_FILES):
            self.download_outputs(filenames=[STDOUT, STDERR])
        return info.status

    def wait_for_status(
        self, status: str, polling_period: float = 1, silent_mode: bool = False
    ) -> Status:
        """Wait until the task has, or has had, this status, or has ended; see `wait`.

        Returns:
            The status that it has then.
        """
        return self._follow(polling_period, silent_mode, until=to_status(status)).status

    def _follow(self, period: float, silent: bool, until: Status | None) -> TaskInfo:
        if not period > 0:
            raise InvalidInput(f"polling_period: {period} must be more than zero.")
        files = () if silent else STD_FILES
        printer = None if silent else Printer(Output(sys.stdout))
        for news in Follow(self._api, self.id, files, limits.LIVE_MAX_LINES):
            if printer is not None:
                printer.show(news)
            if news.kind == "end" or (news.kind == "status" and self._has_had(until)):
                break
        info = self.get_info()
        if printer is not None and info.is_terminal:
            printer.ended(info.status, info.description)
        return info

    def _has_had(self, status: Status | None) -> bool:
        """Whether the current attempt has, or had, this status: it may have passed quickly."""
        if status is None:
            return False
        info = self.get_info()
        entries = [e for e in info["status_history"] if e["attempt"] == info["attempt"]]
        return any(entry["status"] == status for entry in entries)

    def kill(
        self,
        wait_timeout: float | None = 1,
        verbosity_level: int = 2,
        *,
        discard_outputs: bool = False,
    ) -> bool | None:
        """Ask for the task to be killed.

        Args:
            wait_timeout: seconds to wait for it to be killed; None: do not wait.
            verbosity_level: 0 prints nothing, 1 the result, 2 each step.
            discard_outputs: do not keep what the task has put out so far.

        Returns:
            None when not waiting; else whether the task is killed now.

        Raises:
            InvalidInput: `wait_timeout` is negative, or there is no such verbosity.
        """
        if wait_timeout is not None and not wait_timeout >= 0:
            raise InvalidInput(f"wait_timeout: {wait_timeout} must not be negative.")
        if verbosity_level not in {0, 1, 2}:
            raise InvalidInput(f"verbosity_level: {verbosity_level} is not one of 0, 1, 2.")
        status = self._request_kill(verbosity_level, discard_outputs)
        if wait_timeout is None:
            return None
        if status not in TERMINAL:
            for state in changes(self._api, [self.id], wait_timeout):
                status = Status(state["status"])
        killed = status == Status.KILLED
        if verbosity_level:
            say(f"Task {self.id}: {TABLE[status].label}.")
        return killed

    def _request_kill(self, verbosity: int, discard: bool) -> Status:
        try:
            response = self._api.post(
                f"/tasks/{self.id}/kill", repeatable=True, discard=discard or None
            )
        except ApiError as error:
            # It has ended by itself in the meantime: nothing is left to be killed.
            if error.status != 409:
                raise
            return self.get_status()
        if verbosity == 2:
            say(f"Asked for task {self.id} to be killed.")
        return Status(response["status"])

    def extend(self, duration: str | float) -> None:
        """Let the task live longer, also while it runs.

        Args:
            duration: by how much, such as `2h`.

        Raises:
            InvalidInput: it is not a duration.
            ApiError: the task has ended, or has no time-to-live.
        """
        seconds = parse_duration(duration)
        self._info = TaskInfo(self._api.post(f"/v1/tasks/{self.id}/extend", {"seconds": seconds}))

    def get_usage(self) -> list[dict[str, Any]]:
        """What the task used over time: CPU seconds, memory, processes, bytes read and written
        and on the disk; a sample a minute, after an hour one in five minutes."""
        found: list[dict[str, Any]] = self._api.get(f"/v1/tasks/{self.id}/usage")
        return found

    def get_attempts(self) -> list[dict[str, Any]]:
        """Every attempt that a machine took up, first one first: `attempt`, `machine_name`,
        `started_at` and `ended_at`, why it ended (`cause`, `detail`), what of it was `saved`, and
        its `cost` in US$."""
        found: list[dict[str, Any]] = self._api.get(f"/v1/tasks/{self.id}/attempts")
        return found

    def explain(self) -> dict[str, Any]:
        """Why the task waits: `reason`, `sentence`, and where known `ahead` and `estimate_s`."""
        found: dict[str, Any] = self._api.get(f"/v1/tasks/{self.id}/explain")
        return found

    @contextmanager
    def sync_context(self) -> Iterator[None]:
        """Kill the task where an exception or Ctrl-C ends the `with` block."""
        try:
            yield
        except BaseException:
            self.kill(wait_timeout=None, verbosity_level=1)
            raise
