"""The user's storage: signed URLs, listings, looking into archives, deletion."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from sqlalchemy import select

from scheduler.api.deps import PartsDep, UserDep
from scheduler.api.wire import when
from scheduler.objects.archive import Member, list_zip, raw_range
from scheduler.services.errors import Invalid, NotFound
from scheduler.store.models import Task, User
from scheduler.wiring import Parts
from simherd.contract import limits, objects

router = APIRouter(prefix="/storage", tags=["storage"])


def _clean(path: str) -> str:
    try:
        return objects.normalise(path)
    except ValueError as error:
        raise Invalid(f"path: {error}.") from error


@router.get("/signed-urls")
def signed_urls(
    parts: PartsDep,
    user: UserDep,
    operation: Literal["upload", "download"],
    paths: Annotated[list[str], Query(min_length=1)],
) -> list[str]:
    """URLs that allow the operation on each path for an hour, in the order of `paths`."""
    clean = [_clean(p) for p in paths]
    if operation == "download":
        clean = [found for path in clean for found in _expand(parts, user, path)]
    return [parts.objects.sign(user.id, p, operation, limits.USER_URL_S) for p in clean]


def _expand(parts: Parts, user: User, path: str) -> list[str]:
    """A file as it is; a folder as the files in it."""
    if parts.objects.stat(user.id, path) is not None:
        return [path]
    below = [info.path for info in parts.objects.list(user.id, path)]
    if not below:
        raise NotFound(f"paths: nothing is stored at {path!r}.")
    return below


@router.get("/zip-contents")
def zip_contents(
    parts: PartsDep,
    user: UserDep,
    path: str,
    zip_relative_path: str = "",
    recursive: bool = True,
) -> dict[str, Any]:
    """The files in a stored zip below a folder, with names relative to that folder."""
    listing = list_zip(parts.objects, user.id, _clean(path))
    contents = []
    for member, name in _below(listing.members, zip_relative_path):
        contents.append(
            {
                "name": name,
                "size": member.size,
                "compressed_size": member.compressed_size,
                "compress_type": member.compress_type,
                "creation_time": member.modified_at.isoformat(),
                "range_start": None,
            }
        )
    return {"size": listing.size, "contents": contents}


def _below(members: tuple[Member, ...], folder: str) -> list[tuple[Member, str]]:
    """The members below `folder`, also when it is glued (`artifactsvtk`, a client's bug)."""
    for root in (objects.OUTPUT_ROOT, objects.INPUT_ROOT):
        rest = folder.removeprefix(root)
        if rest != folder and rest and not rest.startswith("/"):
            folder = f"{root}/{rest}"
    prefix = folder.strip("/") + "/" if folder.strip("/") else ""
    return [(m, m.name.removeprefix(prefix)) for m in members if m.name.startswith(prefix)]


@router.get("/zip-file-range")
def zip_file_range(
    parts: PartsDep, user: UserDep, path: str, filename: str, zip_relative_path: str = ""
) -> dict[str, int]:
    """Where the raw bytes of one file in a stored zip lie."""
    clean = _clean(path)
    listing = list_zip(parts.objects, user.id, clean)
    for member, name in _below(listing.members, zip_relative_path):
        if name == filename:
            first, last = raw_range(parts.objects, user.id, clean, member)
            return {
                "range_start": first,
                "range_end": last,
                "compress_type": member.compress_type,
            }
    raise NotFound(f"filename: there is no {filename!r} in {path!r}.")


@router.delete("/")
def delete(parts: PartsDep, user: UserDep, path: str) -> dict[str, int]:
    """Delete a file, or a folder with all in it. A bare task id is that task's folder."""
    clean = _clean(path)
    if "/" not in clean:
        with parts.store.read() as session:
            task = session.scalar(select(Task).where(Task.id == clean, Task.user_id == user.id))
        if task is not None:
            clean = objects.task_dir(task.storage_prefix, task.id)
    count = parts.objects.delete(user.id, clean)
    if count == 0:
        raise NotFound(f"path: nothing is stored at {path!r}.")
    return {"deleted": count}


@router.get("/size")
def size(parts: PartsDep, user: UserDep) -> int:
    """How many bytes the user has stored."""
    return sum(info.size for info in parts.objects.list(user.id, ""))


@router.get("/cost")
def cost(user: UserDep) -> dict[str, Any]:
    """Storage costs nothing on a server of one's own."""
    return {"estimated_monthly_cost": 0.0, "currency": "USD"}


@router.get("/contents")
def contents(
    parts: PartsDep,
    user: UserDep,
    path: str = "",
    recursive: bool = False,
    sort_by: Literal["creation_time", "size", "name"] = "creation_time",
    order: Literal["asc", "desc"] = "desc",
    page: Annotated[int, Query(ge=1)] = 1,
    per_page: Annotated[int, Query(ge=1, le=100)] = 10,
) -> dict[str, Any]:
    """What lies in a folder, with names relative to it."""
    folder = _clean(path) if path.strip("/") else ""
    rows: dict[str, dict[str, Any]] = {}
    for info in parts.objects.list(user.id, folder):
        name = info.path.removeprefix(f"{folder}/") if folder else info.path
        first, _, rest = name.partition("/")
        is_directory = bool(rest) and not recursive
        shown = f"{first}/" if is_directory else name
        row = rows.setdefault(
            shown, {"name": shown, "size_bytes": 0, "at": 0.0, "is_directory": is_directory}
        )
        row["size_bytes"] += info.size
        row["at"] = max(row["at"], info.modified_at)
    keys = {"creation_time": "at", "size": "size_bytes", "name": "name"}
    ordered = sorted(rows.values(), key=lambda r: r[keys[sort_by]], reverse=order == "desc")
    shown_rows = ordered[(page - 1) * per_page : page * per_page]
    return {
        "total_files": len(ordered),
        "available_regions": ["local"],
        "contents": [
            {
                "name": r["name"],
                "size_bytes": r["size_bytes"],
                "creation_time": when(r["at"]),
                "is_directory": r["is_directory"],
                "provider_id": "LOCAL",
                "region": "local",
            }
            for r in shown_rows
        ],
    }
