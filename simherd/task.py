"""One task, and everything that can be done with it."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

from simherd.contract.lifecycle import FAILED, RUNNING, TABLE, TERMINAL, Status
from simherd.contract.objects import INPUT_ROOT, OUTPUT_ROOT, STDERR, STDOUT
from simherd.contract.operations import Metric
from simherd.errors import ApiError, InvalidInput, NotFound
from simherd.http import Api, api
from simherd.info import TaskInfo
from simherd.output_info import FileInfo, TaskOutputInfo
from simherd.utils import parse_duration

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path


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


class Task:
    """A submitted simulation.

    Example:
        task = simulator.run(input_dir="my-case", on="local")
        task.wait()
        task.download_outputs(filenames=["stdout.txt"])
    """

    def __init__(self, task_id: str) -> None:
        """A handle on the task with this id; nothing is sent."""
        self.id = task_id
        self._info: TaskInfo | None = None

    @classmethod
    def from_api_info(cls, info: Mapping[str, Any]) -> Task:
        """A task from the server's description of it."""
        task = cls(info["task_id"])
        task._info = TaskInfo(info)
        return task

    def __repr__(self) -> str:
        return f"Task({self.id!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Task) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    @property
    def _api(self) -> Api:
        return api()

    # What it is

    def get_info(self) -> TaskInfo:
        """Everything about the task, asked for anew."""
        self._info = TaskInfo(self._api.get(f"/tasks/{self.id}"))
        return self._info

    @property
    def info(self) -> TaskInfo:
        """What was last learned about the task; may be old."""
        return self._info or self.get_info()

    def _ended_info(self, cached: bool = False) -> TaskInfo:
        """As `get_info`, but without a request where nothing can have changed."""
        known = self._info
        if known is not None and (cached or (known.is_terminal and "status_history" in known)):
            return known
        return self.get_info()

    def get_status(self) -> Status:
        """The task's status."""
        if self._info is not None and self._info.is_terminal:
            return self._info.status
        return Status(self._api.get(f"/tasks/{self.id}/status")["status"])

    def is_running(self) -> bool:
        """Whether a machine works on the task."""
        return self.get_status() in RUNNING

    def is_failed(self) -> bool:
        """Whether the task has ended in any way but success."""
        return self.get_status() in FAILED

    def is_terminal(self) -> bool:
        """Whether the task has ended."""
        return self.get_status() in TERMINAL

    def get_position_in_queue(self) -> int | None:
        """How many tasks of the group are ahead; None when the task does not wait."""
        position = self._api.get(f"/tasks/{self.id}/status")["position_in_queue"]
        return None if position is None else int(position["tasks_ahead"])

    def get_simulator_name(self) -> str:
        """The simulator's name."""
        return str(self.info["simulator"])

    def get_storage_path(self) -> str:
        """The task's folder in the user's storage."""
        return str(self.info["storage_path"])

    def get_machine_type(self) -> str | None:
        """The type of the machine that ran the task; None before there was one."""
        return self._ended_info().machine_type

    def get_computation_time(self, cached: bool = False) -> float | None:
        """Seconds the commands ran for, so far if they still run; None before they started."""
        info = self._ended_info(cached)
        measured = info.metric(Metric.COMPUTATION_SECONDS)
        if measured is not None:
            return measured
        return info.seconds_between("computation_start_time", "computation_end_time")

    def get_total_time(self, cached: bool = False) -> float | None:
        """Seconds since the task was submitted, until its end where it has ended."""
        return self._ended_info(cached).seconds_between("create_time", "end_time")

    @property
    def summary(self) -> str:
        """The task in some lines, from what was last learned."""
        return str(self._ended_info(cached=self._info is not None))

    def print_summary(self, fhandle: TextIO | None = None) -> None:
        """Print the task in some lines, asked for anew."""
        print(self._ended_info(), file=fhandle or sys.stdout)

    def get_metadata(self) -> dict[str, str]:
        """What was set with `set_metadata`."""
        return dict(self._api.get(f"/tasks/{self.id}/metadata"))

    def set_metadata(self, metadata: dict[str, str]) -> None:
        """Keep texts of one's own with the task, in place of those there were.

        Raises:
            InvalidInput: a key or value is no text, or a key is empty.
        """
        for key, value in metadata.items():
            if not isinstance(key, str) or not isinstance(value, str) or not key:
                raise InvalidInput(f"metadata: {key!r}: {value!r} are not two texts.")
        self._api.put(f"/tasks/{self.id}/metadata", metadata)

    # Waiting and stopping

    def wait(
        self,
        polling_period: float = 1,
        silent_mode: bool = False,
        download_std_on_completion: bool = True,
    ) -> Status:
        """Wait until the task has ended; Ctrl-C leaves it running.

        Args:
            polling_period: seconds between two looks at the status.
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
        """Wait until the task has this status, or has ended; see `wait`."""
        return self._follow(polling_period, silent_mode, until=to_status(status)).status

    def _follow(self, period: float, silent: bool, until: Status | None) -> TaskInfo:
        from simherd.watch import Watcher, follow

        if not period > 0:
            raise InvalidInput(f"polling_period: {period} must be more than zero.")
        watcher = None if silent else Watcher(sys.stdout, True, self._api, self.id)
        return follow(self.get_info, watcher, period, until)

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
            raise InvalidInput(f"verbosity_level: {verbosity_level} is none of 0, 1, 2.")
        status = self._request_kill(verbosity_level, discard_outputs)
        if wait_timeout is None:
            return None
        give_up_at = time.monotonic() + wait_timeout
        while status not in TERMINAL and time.monotonic() < give_up_at:
            time.sleep(0.1)
            status = self.get_status()
        killed = status == Status.KILLED
        if verbosity_level:
            print(f"Task {self.id}: {TABLE[status].label}.")
        return killed

    def _request_kill(self, verbosity: int, discard: bool) -> Status:
        try:
            answer = self._api.post(
                f"/tasks/{self.id}/kill", repeatable=True, discard=discard or None
            )
        except ApiError as error:
            # It has ended by itself in the meantime: nothing is left to be killed.
            if error.status != 409:
                raise
            return self.get_status()
        if verbosity == 2:
            print(f"Asked for task {self.id} to be killed.")
        return Status(answer["status"])

    def extend(self, duration: str | float) -> None:
        """Let the task live longer, also while it runs.

        Args:
            duration: by how much, such as `2h`.

        Raises:
            InvalidInput: it is no duration.
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

    # Files

    def get_output_info(self) -> TaskOutputInfo:
        """Which files the task has put out, with their sizes."""
        found = self._api.get(
            "/storage/zip-contents",
            path=self._ended_info()["storage_output_path"],
            zip_relative_path=f"{OUTPUT_ROOT}/",
            recursive=True,
        )
        rows = [FileInfo(r["name"], r["size"], r["compressed_size"]) for r in found["contents"]]
        return TaskOutputInfo(found["size"], rows)

    #: The older spelling, which the guides use.
    get_output_files_info = get_output_info

    def get_input_url(self) -> str | None:
        """A URL to download the input archive with, or None when there is none."""
        return self._url(self.info["storage_input_path"])

    def get_output_url(self) -> str | None:
        """A URL to download the output archive with, or None when there is none."""
        return self._url(self._ended_info()["storage_output_path"])

    def _url(self, path: str) -> str | None:
        try:
            urls = self._api.get("/storage/signed-urls", operation="download", paths=[path])
        except NotFound:
            return None
        return str(urls[0])

    def download_outputs(
        self,
        filenames: list[str] | None = None,
        output_dir: str | None = None,
        uncompress: bool = True,
        rm_downloaded_zip_archive: bool = True,
        rm_remote_files: bool = False,
    ) -> Path | None:
        """Download what the task has put out.

        Args:
            filenames: only these files, by their names in `get_output_info()`.
            output_dir: a folder inside `get_output_dir()`; by default `TASK_ID/outputs`.
            uncompress: unpack the archive.
            rm_downloaded_zip_archive: remove the archive once it is unpacked.
            rm_remote_files: then delete the task's files from storage (whole downloads only).

        Returns:
            The folder, or None when there are no outputs.

        Raises:
            SimherdError: a file of `filenames` does not exist, or a transfer failed.
        """
        return self._download(
            self._url(self._ended_info()["storage_output_path"]),
            OUTPUT_ROOT,
            output_dir or f"{self.id}/outputs",
            filenames,
            (uncompress, rm_downloaded_zip_archive, rm_remote_files),
        )

    def download_inputs(
        self,
        filenames: list[str] | None = None,
        input_dir: str | None = None,
        uncompress: bool = True,
        rm_downloaded_zip_archive: bool = True,
        rm_remote_files: bool = False,
    ) -> Path | None:
        """Download what the task was given; the arguments are those of `download_outputs`."""
        return self._download(
            self.get_input_url(),
            INPUT_ROOT,
            input_dir or f"{self.id}/inputs",
            filenames,
            (uncompress, rm_downloaded_zip_archive, rm_remote_files),
        )

    def _download(
        self,
        url: str | None,
        root: str,
        folder: str,
        filenames: list[str] | None,
        options: tuple[bool, bool, bool],
    ) -> Path | None:
        from simherd.download import download_archive, download_members

        uncompress, remove_archive, remove_remote = options
        if url is None:
            return None
        if filenames:
            return download_members(url, root, filenames, folder)
        target = download_archive(url, root, folder, uncompress, remove_archive)
        if remove_remote:
            self.remove_remote_files(verbose=False)
        return target

    def remove_remote_files(self, verbose: bool = True) -> bool:
        """Delete all of the task's files from storage; False when there were none."""
        try:
            self._api.delete("/storage/", path=f"{self.id}/")
        except NotFound:
            if verbose:
                print(f"Task {self.id} has no files in storage.")
            return False
        if verbose:
            print(f"The files of task {self.id} were deleted from storage.")
        return True
