"""The client for programs with an event loop: the same names, to be awaited.

    task = await aio.run(simulator, "my-case", commands=["./solve"])
    status = await task.wait()
    await task.download_outputs()

Waiting, for one task or thousands, is one connection and no thread; everything else runs in a
thread while the loop goes on.
"""

from __future__ import annotations

import asyncio
import functools
import time
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

import httpx

from simherd import tasks
from simherd.config import read_connection
from simherd.contract import limits
from simherd.contract.lifecycle import TERMINAL, Status
from simherd.contract.objects import STDERR, STDOUT
from simherd.contract.operations import Metric
from simherd.errors import ApiError, Unreachable, WaitTimeout
from simherd.http import EVENTS_TIMEOUT, EventParser, check_response
from simherd.reconnect import ReconnectPolicy
from simherd.waiting import BROKEN_OFF, CHANGES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterable

    from simherd.simulators import Simulator

__all__ = ["Task", "get", "get_all", "get_tasks", "run", "wait"]

P = ParamSpec("P")
T = TypeVar("T")


def _aside(
    method: Callable[Concatenate[tasks.Task, P], T],
) -> Callable[Concatenate[Task, P], Coroutine[Any, Any, T]]:
    """Return the method as a coroutine that runs it in a thread."""

    @functools.wraps(method)
    async def run(self: Task, /, *given: P.args, **named: P.kwargs) -> T:
        return await asyncio.to_thread(method, self.sync, *given, **named)

    return run


class Task:
    """A submitted simulation; each method is that of `simherd.tasks.Task` of the same name."""

    def __init__(self, task: str | tasks.Task) -> None:
        """`task`: its id, or the task as programs without an event loop have it."""
        self.sync = tasks.Task(task) if isinstance(task, str) else task

    def __repr__(self) -> str:
        return f"aio.Task({self.id!r})"

    @property
    def id(self) -> str:
        """The task's id."""
        return self.sync.id

    get_info = _aside(tasks.Task.get_info)
    get_status = _aside(tasks.Task.get_status)
    get_attempts = _aside(tasks.Task.get_attempts)
    get_computation_time = _aside(tasks.Task.get_computation_time)
    get_files = _aside(tasks.Task.get_files)
    get_input_url = _aside(tasks.Task.get_input_url)
    get_machine_type = _aside(tasks.Task.get_machine_type)
    get_metadata = _aside(tasks.Task.get_metadata)
    get_output_info = _aside(tasks.Task.get_output_info)
    get_output_url = _aside(tasks.Task.get_output_url)
    get_position_in_queue = _aside(tasks.Task.get_position_in_queue)
    get_total_time = _aside(tasks.Task.get_total_time)
    get_usage = _aside(tasks.Task.get_usage)
    is_failed = _aside(tasks.Task.is_failed)
    is_running = _aside(tasks.Task.is_running)
    is_terminal = _aside(tasks.Task.is_terminal)
    set_metadata = _aside(tasks.Task.set_metadata)
    extend = _aside(tasks.Task.extend)
    explain = _aside(tasks.Task.explain)
    kill = _aside(tasks.Task.kill)
    download_inputs = _aside(tasks.Task.download_inputs)
    download_outputs = _aside(tasks.Task.download_outputs)
    fetch_file = _aside(tasks.Task.fetch_file)
    last_modified_file = _aside(tasks.Task.last_modified_file)
    list_files = _aside(tasks.Task.list_files)
    remove_remote_files = _aside(tasks.Task.remove_remote_files)
    tail_files = _aside(tasks.Task.tail_files)
    top = _aside(tasks.Task.top)

    async def wait(
        self, *, timeout: float | None = None, download_std_on_completion: bool = True
    ) -> Status:
        """Wait until the task has ended; prints nothing.

        Args:
            timeout: seconds to wait at the most; None: without end.
            download_std_on_completion: then download stdout.txt and stderr.txt.

        Raises:
            WaitTimeout: it has not ended in time.
        """
        (status,) = await wait([self], timeout=timeout)
        if download_std_on_completion:
            info = await self.get_info()
            if info.metric(Metric.OUTPUT_TOTAL_FILES):
                await self.download_outputs([STDOUT, STDERR])
        return status

    async def close_stream(self) -> None:
        """End a `tail_files` that follows."""
        await self.sync.close_stream()


async def run(simulator: Simulator, *given: Any, **named: Any) -> Task:
    """Submit a task: `simulator.run` with these arguments."""
    return Task(await asyncio.to_thread(simulator.run, *given, **named))


async def get(*given: Any, **named: Any) -> list[Task]:
    """See `simherd.tasks.get`."""
    return [Task(t) for t in await asyncio.to_thread(tasks.get, *given, **named)]


async def get_all(*given: Any, **named: Any) -> list[Task]:
    """See `simherd.tasks.get_all`."""
    return [Task(t) for t in await asyncio.to_thread(tasks.get_all, *given, **named)]


async def get_tasks(*given: Any, **named: Any) -> list[Task]:
    """See `simherd.tasks.get_tasks`."""
    return [Task(t) for t in await asyncio.to_thread(tasks.get_tasks, *given, **named)]


async def wait(wanted: Iterable[Task], *, timeout: float | None = None) -> list[Status]:
    """Wait until all of these tasks have ended and return their final statuses, in their order.

    Raises:
        WaitTimeout: some have not ended in `timeout` seconds.
        NotFound: there is no such task.
    """
    tasks_given = list(wanted)
    ids = list(dict.fromkeys(task.id for task in tasks_given))
    found: dict[str, Status] = {}
    end = None if timeout is None else time.monotonic() + timeout
    for start in range(0, len(ids), limits.MAX_WAITED):
        async for state in _changes(ids[start : start + limits.MAX_WAITED], end):
            if (status := Status(state["status"])) in TERMINAL:
                found[state["task_id"]] = status
    missing = [task for task in ids if task not in found]
    if missing:
        raise WaitTimeout(f"{len(missing)} of {len(ids)} tasks have not ended yet.", missing)
    return [found[task.id] for task in tasks_given]


async def _changes(ids: list[str], end: float | None) -> AsyncIterator[dict[str, Any]]:
    """As `simherd.waiting.changes`; `end` as `time.monotonic()` has it."""
    connection = read_connection()
    headers = {"X-API-Key": connection.key}
    policy, has_state = ReconnectPolicy(), False
    async with httpx.AsyncClient(base_url=connection.url, headers=headers) as client:
        while True:
            left = None if end is None else max(0.0, end - time.monotonic())
            if has_state and left == 0.0:
                return
            try:
                async for kind, state in _events(
                    client, connection.key_source, {"ids": ids, "seconds": left}
                ):
                    policy.received()
                    if kind == "end":
                        return
                    has_state = True
                    yield state
                raise Unreachable(BROKEN_OFF)
            except httpx.HTTPError as error:
                broken = Unreachable(f"The connection to {connection.url} broke: {error}")
                await asyncio.sleep(policy.pause_after(broken))
            except (Unreachable, ApiError) as error:
                await asyncio.sleep(policy.pause_after(error))


async def _events(
    client: httpx.AsyncClient, key_source: str, body: dict[str, Any]
) -> AsyncIterator[tuple[str, dict[str, Any]]]:
    parser = EventParser()
    request = client.stream("POST", CHANGES, json=body, timeout=EVENTS_TIMEOUT)
    async with request as response:
        if not response.is_success:
            await response.aread()
            check_response(response, key_source)
        async for line in response.aiter_lines():
            event = parser.feed(line)
            if event is not None:
                yield event
