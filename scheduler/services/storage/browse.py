"""A user's storage, beyond single objects: listings of folders, copies, where tasks lie."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sqlalchemy import select

from scheduler.objects.base import StorageUnavailable
from scheduler.services.errors import Conflict, Invalid, ResourceNotFound
from scheduler.services.storage.room import room_for_copies
from scheduler.store.models import TaskRow
from simherd.contract import objects

if TYPE_CHECKING:
    from collections.abc import Iterable

    from scheduler.objects.base import ObjectInfo
    from scheduler.wiring import Runtime

#: Objects that are copied at the same time.
_COPIES = 8


@dataclass(frozen=True)
class ListingRow:
    """One line of a listing; the name of a folder ends in `/`. Bytes and epoch seconds, None
    where they are not known without a walk through the folder."""

    name: str
    size: int | None
    at: float | None

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder."""
        return self.name.endswith("/")


def clean_path(path: str, field: str = "path") -> str:
    """Return a request's path, normalised. Raises Invalid."""
    try:
        return objects.normalise(path)
    except ValueError as error:
        raise Invalid(f"{field}: {error}.") from error


def check_region(rt: Runtime, region: str | None, *, every: str | None = None) -> None:
    """Refuse an unknown region; `every` is a word for all regions. Raises ResourceNotFound."""
    if region not in (None, rt.region, every):
        raise ResourceNotFound(
            f"region: there is no region {region!r}; this storage is in {rt.region}."
        )


def files_at(rt: Runtime, user_id: str, path: str) -> list[ObjectInfo]:
    """Return a file, or the files in a folder. Raises ResourceNotFound."""
    info = rt.objects.stat(user_id, path)
    if info is not None:
        return [info]
    below = list(rt.objects.list(user_id, path))
    if not below:
        raise ResourceNotFound(f"path: nothing is stored at {path!r}.")
    return below


def listing(rt: Runtime, user_id: str, folder: str, *, with_sizes: bool) -> list[ListingRow]:
    """What lies in a folder; a file's path lists the file. `with_sizes` of folders takes a walk
    through all that lies below.

    Raises ResourceNotFound: nothing lies there. The top folder is always there.
    """
    if with_sizes:
        rows = _summed(rt, user_id, folder)
    else:
        rows = [
            ListingRow(f"{e.name}/" if e.is_folder else e.name, e.size, e.modified_at)
            for e in rt.objects.entries(user_id, folder)
        ]
        rows = _dated(rt, user_id, rows)
    if not rows and folder:
        info = rt.objects.stat(user_id, folder)
        if info is None:
            raise ResourceNotFound(f"path: nothing is stored at {folder!r}.")
        return [ListingRow(folder.rpartition("/")[2], info.size, info.modified_at)]
    return rows


def _summed(rt: Runtime, user_id: str, folder: str) -> list[ListingRow]:
    """With the sum of the sizes in each folder, and the newest of its dates."""
    rows: dict[str, ListingRow] = {}
    for info in rt.objects.list(user_id, folder):
        name = info.path.removeprefix(f"{folder}/") if folder else info.path
        first, slash, _ = name.partition("/")
        row = rows.setdefault(first + slash, ListingRow(first + slash, 0, 0.0))
        rows[row.name] = ListingRow(
            row.name, (row.size or 0) + info.size, max(row.at or 0.0, info.modified_at)
        )
    return list(rows.values())


def _dated(rt: Runtime, user_id: str, rows: list[ListingRow]) -> list[ListingRow]:
    """With the date of the task where a folder is one's: storages keep no dates of folders."""
    if not any(row.is_folder for row in rows):
        return rows
    with rt.store.read() as session:
        query = select(TaskRow.id, TaskRow.create_time).where(TaskRow.user_id == user_id)
        created = {f"{task_id}/": at for task_id, at in session.execute(query)}
    return [replace(row, at=created[row.name]) if row.name in created else row for row in rows]


def task_folder(rt: Runtime, user_id: str, path: str) -> str:
    """A bare task id as the folder of that task, wherever it lies; another path as it is."""
    task = None if "/" in path else _task(rt, user_id, path)
    return path if task is None else objects.task_dir(task.storage_prefix, task.id)


def readable_path(rt: Runtime, user_id: str, path: str) -> str:
    """`TASK_ID/output.zip`, which guides name, as the archive of the task's last attempt; another
    path as it is."""
    folder, _, name = path.rpartition("/")
    if name != objects.OUTPUT_ARCHIVE or rt.objects.stat(user_id, path) is not None:
        return path
    task = _task(rt, user_id, folder.rpartition("/")[2])
    if task is None:
        return path
    return objects.output_path(task.storage_prefix, task.id, max(task.attempt, 1))


def _task(rt: Runtime, user_id: str, task_id: str) -> TaskRow | None:
    with rt.store.read() as session:
        return session.scalar(
            select(TaskRow).where(TaskRow.id == task_id, TaskRow.user_id == user_id)
        )


def copy(rt: Runtime, user_id: str, source: str, target: str) -> int:
    """Copy a file or a folder, and return the number of files.

    `source`: a normalised path. `target`: the copy's path; ending in `/`, the folder that it goes
    into under its own name.

    Raises:
        ResourceNotFound: nothing lies at `source`.
        Invalid: it would be copied onto or into itself.
        Conflict: something lies at the target already, and nothing was copied; or the storage broke
            off, and something was.
        QuotaExceeded: the user's storage has no room for the copies.
    """
    if target.endswith("/"):
        target += source.rpartition("/")[2]
    target = clean_path(target, "target")
    if f"{target}/".startswith(f"{source}/"):
        raise Invalid(f"target: {target!r} is {source!r} itself, or inside it.")
    files = files_at(rt, user_id, source)
    pairs = [(info.path, target + info.path.removeprefix(source)) for info in files]
    _refuse_existing(rt, user_id, target, {new for _, new in pairs})
    size = sum(info.size for info in files)
    with room_for_copies(rt, user_id, target, size), ThreadPoolExecutor(_COPIES) as pool:
        try:
            list(pool.map(lambda pair: rt.objects.copy(user_id, *pair), pairs))
        except StorageUnavailable as error:
            # Not a status that clients retry: something was copied.
            raise Conflict(
                f"target: the storage broke off while {source!r} was copied. Remove what is at "
                f"{target!r}, and copy it again."
            ) from error
    return len(pairs)


def _refuse_existing(rt: Runtime, user_id: str, target: str, paths: Iterable[str]) -> None:
    existing = {info.path for info in rt.objects.list(user_id, target)}
    if rt.objects.stat(user_id, target) is not None:
        existing.add(target)
    taken = sorted(existing.intersection(paths) or existing.intersection({target}))
    if taken:
        raise Conflict(
            f"target: {taken[0]!r} is there already. Remove it first, or choose another target."
        )
