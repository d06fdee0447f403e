"""Storage beyond the published contract: files with their sizes, fetches and exports."""

from __future__ import annotations

from typing import Any

from scheduler.api.deps import RuntimeDep, UserDep
from scheduler.api.serializers import transfer_json
from scheduler.api.strict import StrictRouter
from scheduler.services.storage import browse
from scheduler.services.storage.transfers import transfer_of, transfers_of
from simherd.contract import limits

router = StrictRouter(prefix="/v1/storage", tags=["storage"])


@router.get("/files")
def list_files(
    rt: RuntimeDep, user: UserDep, path: str, region: str | None = None
) -> list[dict[str, Any]]:
    """The file at `path`, or all files in the folder there, each with its size and a URL that
    downloads it for an hour."""
    browse.check_region(rt, region)
    clean = browse.readable_path(rt, user.id, browse.clean_path(path))
    return [
        {
            "path": info.path,
            "size_bytes": info.size,
            "url": rt.objects.sign(user.id, info.path, "download", limits.USER_URL_S, public=True),
        }
        for info in browse.files_at(rt, user.id, clean)
    ]


@router.get("/transfers")
def list_transfers(rt: RuntimeDep, user: UserDep) -> list[dict[str, Any]]:
    """The user's fetches and exports that go on or ended in the last week, newest first."""
    return [transfer_json(row) for row in transfers_of(rt, user.id)]


@router.get("/transfers/{transfer_id}")
def get_transfer(rt: RuntimeDep, user: UserDep, transfer_id: str) -> dict[str, Any]:
    """One fetch or export: its state, how many bytes are there, and what went wrong."""
    return transfer_json(transfer_of(rt, user.id, transfer_id))
