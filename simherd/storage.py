"""The user's storage on the server: list, upload, download, copy, remove, fetch, export.

Paths are those of the storage, with `/` between names: `inputs/mesh.stl`, `TASK_ID/input.zip`. A
path may lead on into a stored zip: `TASK_ID/attempts/1/output.zip/stdout.txt`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import unquote, urlsplit

from simherd.contract.transfers import ENDED, TransferKind, TransferState
from simherd.contract.upload_grant import MIB
from simherd.errors import InvalidInput, TransferError
from simherd.http import api

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "Entry",
    "Transfer",
    "copy",
    "download",
    "export",
    "export_to_s3",
    "get_buckets",
    "get_cost",
    "get_size",
    "get_space_used",
    "get_transfer",
    "get_transfers",
    "listdir",
    "remove",
    "upload",
    "upload_from_url",
]

#: Entries that the server lists at a time, at the most.
_PAGE = 100
#: Seconds between two looks at a transfer that is waited for.
_LOOK_S = 0.5

OrderBy = Literal["creation_time", "size", "name"]
SortOrder = Literal["asc", "desc"]


@dataclass(frozen=True)
class Entry:
    """What lies in a folder of the storage. The name of a folder ends in `/`.

    Attributes:
        size: bytes; None for a folder whose size was not asked for.
        creation_time: an ISO 8601 instant; None where it is not known.
    """

    name: str
    size: int | None
    creation_time: str | None
    region: str

    @property
    def is_directory(self) -> bool:
        """Whether it is a folder."""
        return self.name.endswith("/")


@dataclass(frozen=True)
class Transfer:
    """Something that the server moves in the background: a fetch from a URL, or an export.

    Attributes:
        host: the other side.
        size: bytes of all; None while it is not known.
        moved: bytes that are through.
        error: what went wrong last; a transfer that waits is tried again.
    """

    id: str
    kind: TransferKind
    state: TransferState
    path: str
    host: str | None
    size: int | None
    moved: int
    error: str | None
    created_at: str
    ended_at: str | None

    @property
    def is_ended(self) -> bool:
        """Whether nothing more happens to it."""
        return self.state in ENDED

    def refresh(self) -> Transfer:
        """How it stands now."""
        return get_transfer(self.id)

    def wait(self) -> Transfer:
        """Wait until it has ended and return how it stands then.

        Raises:
            TransferError: it failed; the message says why.
        """
        now = self
        while not now.is_ended:
            time.sleep(_LOOK_S)
            now = now.refresh()
        if now.state == TransferState.FAILED:
            raise TransferError(f"The {now.kind} of {now.path} failed. {now.error}")
        return now


def listdir(
    path: str = "/",
    max_results: int | None = 10,
    order_by: OrderBy = "creation_time",
    sort_order: SortOrder = "desc",
    recursive: bool = False,
    region: str | None = None,
) -> list[Entry]:
    """What lies in a folder.

    Args:
        path: the folder.
        max_results: so many at the most; None: all.
        order_by: creation_time, size or name.
        sort_order: asc or desc.
        recursive: look through the folders below, for the size and newest date of each.
        region: only this storage region; `all` for every one.

    Raises:
        NotFound: there is no such folder, or region.
    """
    wanted, page = max_results, 1
    if wanted is not None and wanted < 1:
        raise InvalidInput(f"max_results: {wanted} must be at least 1, or None for all.")
    found: list[Entry] = []
    while wanted is None or len(found) < wanted:
        rows = api().get(
            "/storage/contents",
            path=path,
            sort_by=order_by,
            order=sort_order,
            recursive=recursive,
            page=page,
            per_page=_PAGE,
            region=region,
        )["contents"]
        found += [Entry(r["name"], r["size_bytes"], r["creation_time"], r["region"]) for r in rows]
        if len(rows) < _PAGE:
            break
        page += 1
    return found[:wanted]


def upload(local_path: str | Path, remote_dir: str, region: str | None = None) -> list[str]:
    """Upload a file, or a folder with all files in it, over what is there.

    Args:
        local_path: the file or folder.
        remote_dir: the folder of the storage that the file, or what is in the folder, goes to.
        region: the storage region.

    Returns:
        The paths in the storage.

    Raises:
        InvalidInput: there is no such file or folder, or nothing in it.
        TransferError: a file could not be stored; those before it are.
    """
    from simherd.storage_files import upload_files

    return upload_files(Path(local_path), remote_dir, region)


def download(
    remote_path: str,
    local_dir: str | Path = "",
    decompress: bool = True,
    region: str | None = None,
) -> Path:
    """Download a file, a folder with all in it, or a file inside a stored zip.

    Args:
        remote_path: its path in the storage; it is written under its own name.
        local_dir: the folder to write to; by default the current one.
        decompress: unpack zips into a folder of their name, and remove them.
        region: the storage region.

    Returns:
        The file or folder that was written.

    Raises:
        NotFound: nothing is stored there.
        TransferError: it could not be fetched whole.
    """
    from simherd.storage_files import download_files

    return download_files(remote_path, Path(local_dir), decompress, region)


def upload_from_url(
    url: str,
    remote_dir: str,
    file_name: str | None = None,
    region: str | None = None,
    wait: bool = False,
) -> Transfer:
    """Have the server fetch a file from the web into the storage.

    Args:
        url: an `http` or `https` address that the server can reach.
        remote_dir: the folder that it goes to.
        file_name: its name there; by default the one in the URL.
        region: the storage region.
        wait: wait until it is there.

    Raises:
        InvalidInput: the URL has no file name.
        ApiError: the server does not fetch from there.
        TransferError: it failed (where waited for).
    """
    name = file_name or PurePosixPath(unquote(urlsplit(url).path)).name
    if not name:
        raise InvalidInput(f"url: {url!r} has no file name; give one with file_name.")
    path = f"{remote_dir.rstrip('/')}/{name}"
    begun = _transfer(api().post("/storage/input_remote", url=url, path=path, region=region))
    return begun.wait() if wait else begun


def copy(source: str, target: str, region: str | None = None) -> int:
    """Copy a file, or a folder with all in it, within the storage; return how many files.

    Args:
        source: what to copy.
        target: the copy; ending in `/`, the folder that it goes into under its own name.
        region: the storage region.

    Raises:
        NotFound: nothing is stored at `source`.
        ApiError: something lies at the target already; nothing was copied.
    """
    made = api().post("/storage/copy", source=source, target=target, region=region)
    return int(made["copied"])


def remove(remote_path: str, region: str | None = None) -> int:
    """Delete a file, or a folder with all in it; return how many files there were.

    Raises:
        NotFound: nothing is stored there.
    """
    return int(api().delete("/storage/", path=remote_path, region=region)["deleted"])


def get_size() -> int:
    """Bytes that are stored in all; with very many files, as of some minutes ago."""
    return int(api().get("/storage/size"))


#: What the published client calls it.
get_space_used = get_size


def get_cost() -> float:
    """What storing this much for a month costs, US$."""
    return float(api().get("/storage/cost")["estimated_monthly_cost"])


def get_buckets() -> list[dict[str, Any]]:
    """The storages that there are: `name`, `provider_id`, `region`, `is_internal`, and whether it
    is the `default`."""
    default = api().get("/storage/default_bucket")
    return [{**row, "default": row == default} for row in api().get("/storage/list_buckets")]


def export(
    path: str,
    part_urls: Sequence[str],
    complete_url: str,
    part_size: int,
    region: str | None = None,
    wait: bool = False,
) -> Transfer:
    """Have the server send a stored file to a multipart upload of another S3.

    The caller begins the upload and signs the URLs; the server gets nothing else.
    `export_to_s3` does both for AWS and compatible services.

    Args:
        path: the stored file.
        part_urls: signed URLs, one for each part, first part first.
        complete_url: the signed URL that completes the upload.
        part_size: bytes of each part but the last.
        region: the storage region.
        wait: wait until it is there.

    Raises:
        NotFound: no file is stored at `path`.
        ApiError: the parts are not as many as the file has, or a URL is not usable.
        TransferError: it failed (where waited for).
    """
    body = {
        "path": path,
        "parts_size": part_size,
        "upload_parts": [
            {"part_number": number, "part_url": url} for number, url in enumerate(part_urls, 1)
        ],
        "complete_multipart_url": complete_url,
    }
    begun = _transfer(api().post("/storage/export_multipart", body, region=region))
    return begun.wait() if wait else begun


def export_to_s3(
    path: str,
    bucket: str,
    file_name: str | None = None,
    part_size_mb: int = 128,
    region: str | None = None,
    wait: bool = False,
) -> Transfer:
    """Have the server send a stored file to a bucket of the user.

    Keys are taken from where the AWS tools have them (`AWS_ACCESS_KEY_ID` and so on, or their
    credentials file), and stay on this machine. `AWS_REGION` names the bucket's region,
    `AWS_ENDPOINT_URL_S3` another S3 than Amazon's.

    Args:
        path: the stored file.
        bucket: the bucket's name.
        file_name: the key there; by default the file's own name.
        part_size_mb: MiB that are sent at a time.
        region: the storage region.
        wait: wait until it is there.

    Raises:
        InvalidInput: there are no keys, it is not a file, or it has too many parts.
        NotFound: nothing is stored at `path`.
        TransferError: the bucket does not take it, or it failed (where waited for).
    """
    from simherd.storage_export import s3_upload

    with s3_upload(path, bucket, file_name, part_size_mb, region) as (part_urls, complete_url):
        return export(path, part_urls, complete_url, part_size_mb * MIB, region, wait)


def get_transfers() -> list[Transfer]:
    """The fetches and exports that go on or ended in the last week, newest first."""
    return [_transfer(row) for row in api().get("/v1/storage/transfers")]


def get_transfer(transfer_id: str) -> Transfer:
    """One of them. Raises NotFound."""
    return _transfer(api().get(f"/v1/storage/transfers/{transfer_id}"))


def _transfer(row: dict[str, Any]) -> Transfer:
    return Transfer(
        row["id"],
        TransferKind(row["kind"]),
        TransferState(row["state"]),
        row["path"],
        row["host"],
        row["size_bytes"],
        row["moved_bytes"],
        row["error"],
        row["created_at"],
        row["ended_at"],
    )
