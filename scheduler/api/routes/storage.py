"""The user's storage: signed URLs, listings, looking into archives, copies, deletion."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import Query
from pydantic import BaseModel, Field

from scheduler.api.bounded import FilePath, Page, StrictBody, Url
from scheduler.api.deps import RuntimeDep, UserDep
from scheduler.api.serializers import dollars, isoformat_utc, transfer_json
from scheduler.api.strict import StrictRouter
from scheduler.domain.limits import MAX_INPUT_BYTES
from scheduler.objects.archive import Listing, TooManyMembers, ZipMember, list_zip, raw_range
from scheduler.services.errors import Invalid, ResourceNotFound, TooLarge
from scheduler.services.storage import browse, transfers
from scheduler.services.storage.room import RequestedUpload, forget_stored, sign_uploads
from scheduler.wiring import Runtime
from simherd.contract import limits, objects
from simherd.contract.upload_grant import MOST_PARTS

router = StrictRouter(prefix="/storage", tags=["storage"])

#: Where an export is body for, below this router's prefix.
EXPORT_VERB = "/export_multipart"
#: What a client says that it will upload, bytes.
AnnouncedBytes = Annotated[int, Field(ge=0, le=MAX_INPUT_BYTES)]
#: The region's name that stands for all of them.
_EVERY_REGION = "all"
_GB = 10**9


@router.get("/signed-urls")
def signed_urls(
    rt: RuntimeDep,
    user: UserDep,
    operation: Literal["upload", "download"],
    paths: Annotated[list[FilePath], Query(min_length=1, max_length=limits.MAX_SIGNED_PATHS)],
    region: str | None = None,
    sizes: Annotated[list[AnnouncedBytes] | None, Query(max_length=limits.MAX_SIGNED_PATHS)] = None,
) -> list[str]:
    """URLs that allow the operation on each path for an hour, in the order of `paths`; a folder
    that is downloaded stands for the files in it. `sizes`: bytes of what is to be uploaded, in the
    same order; room for them is kept in the user's storage for that hour."""
    browse.check_region(rt, region)
    clean = [browse.clean_path(p, "paths") for p in paths]
    if operation == "upload":
        if sizes is not None and len(sizes) != len(clean):
            raise Invalid(f"sizes: {len(sizes)} sizes for {len(clean)} paths. Give one for each.")
        announced: list[int | None] = [*sizes] if sizes else [None] * len(clean)
        return sign_uploads(rt, user.id, list(map(RequestedUpload, clean, announced)))
    downloads = [path for folder in clean for path in _downloads(rt, user.id, folder)]
    return [rt.file_urls.sign(user.id, p, operation, limits.USER_URL_S) for p in downloads]


def _downloads(rt: Runtime, user_id: str, path: str) -> list[str]:
    """A file under the name that was body for, which the URL is to have; a folder as its files."""
    real = browse.readable_path(rt, user_id, path)
    if rt.objects.stat(user_id, real) is not None:
        return [path]
    return [info.path for info in browse.files_at(rt, user_id, path)]


@router.get("/contents")
def contents(
    rt: RuntimeDep,
    user: UserDep,
    path: str = "",
    recursive: bool = False,
    sort_by: Literal["creation_time", "size", "name"] = "creation_time",
    order: Literal["asc", "desc"] = "desc",
    page: Page = 1,
    per_page: Annotated[int, Query(ge=1, le=100)] = 10,
    region: str | None = None,
) -> dict[str, Any]:
    """What lies in a folder, with names relative to it.

    With `recursive`, folders have the size of what is in them, and the newest date. Else they
    have no size, and no date but a task's: that takes no look below.
    """
    browse.check_region(rt, region, every=_EVERY_REGION)
    folder = browse.clean_path(path) if path.strip("/") else ""
    rows = sorted(
        browse.listing(rt, user.id, folder, with_sizes=recursive),
        key=lambda row: _sort_key(row, sort_by),
        reverse=order == "desc",
    )
    return {
        "total_files": len(rows),
        "available_regions": [rt.region],
        "contents": [_row_json(rt, r) for r in rows[(page - 1) * per_page : page * per_page]],
    }


def _sort_key(row: browse.ListingRow, sort_by: str) -> tuple[float, str]:
    """Unknown values are sorted as the smallest."""
    value = {"creation_time": row.at, "size": row.size, "name": 0}[sort_by]
    return (-1 if value is None else value, row.name)


def _row_json(rt: Runtime, row: browse.ListingRow) -> dict[str, Any]:
    return {
        "name": row.name,
        "size_bytes": row.size,
        "creation_time": isoformat_utc(row.at),
        "is_directory": row.is_folder,
        "provider_id": "LOCAL",
        "region": rt.region,
    }


@router.get("/zip-contents")
def zip_contents(
    rt: RuntimeDep,
    user: UserDep,
    path: str,
    zip_relative_path: str = "",
    recursive: bool = True,
    region: str | None = None,
) -> dict[str, Any]:
    """The files in a stored zip below a folder, with names relative to that folder.

    Those in folders below are always among them: the published client asks with `recursive=false`
    and shows all outputs of a task from the response.
    """
    browse.check_region(rt, region)
    listing = _listed(rt, user.id, _archive(rt, user.id, path))
    members = [
        {
            "name": name,
            "size": member.size,
            "compressed_size": member.compressed_size,
            "compress_type": member.compress_type,
            "creation_time": member.modified_at and member.modified_at.isoformat(),
            "range_start": None,
        }
        for member, name in _below(listing.members, zip_relative_path)
    ]
    return {"size": listing.size, "contents": members}


def _archive(rt: Runtime, user_id: str, path: str) -> str:
    return browse.readable_path(rt, user_id, browse.clean_path(path))


def _listed(rt: Runtime, user_id: str, path: str) -> Listing:
    try:
        return list_zip(rt.objects, user_id, path)
    except TooManyMembers as error:
        raise TooLarge(f"path: {error}.") from error
    except ValueError as error:
        raise Invalid(f"path: {error}.") from error


def _below(members: tuple[ZipMember, ...], folder: str) -> list[tuple[ZipMember, str]]:
    """The members below `folder`, also when it is glued (`artifactsvtk`, a client's bug)."""
    for root in (objects.OUTPUT_ROOT, objects.INPUT_ROOT):
        rest = folder.removeprefix(root)
        if rest != folder and rest and not rest.startswith("/"):
            folder = f"{root}/{rest}"
    prefix = folder.strip("/") + "/" if folder.strip("/") else ""
    return [(m, m.name.removeprefix(prefix)) for m in members if m.name.startswith(prefix)]


@router.get("/zip-file-range")
def zip_file_range(
    rt: RuntimeDep,
    user: UserDep,
    path: str,
    filename: str,
    zip_relative_path: str = "",
    region: str | None = None,
) -> dict[str, int]:
    """Where the raw bytes of one file in a stored zip lie: first and last byte."""
    browse.check_region(rt, region)
    clean = _archive(rt, user.id, path)
    for member, name in _below(_listed(rt, user.id, clean).members, zip_relative_path):
        if name == filename:
            first, last = _range(rt, user.id, clean, member)
            return {"range_start": first, "range_end": last, "compress_type": member.compress_type}
    raise ResourceNotFound(f"filename: there is no {filename!r} in {path!r}.")


def _range(rt: Runtime, user_id: str, path: str, member: ZipMember) -> tuple[int, int]:
    try:
        return raw_range(rt.objects, user_id, path, member)
    except ValueError as error:
        raise Invalid(f"path: {error}.") from error


@router.delete("/")
def delete(rt: RuntimeDep, user: UserDep, path: str, region: str | None = None) -> dict[str, int]:
    """Delete a file, or a folder with all in it. A bare task id is that task's folder."""
    browse.check_region(rt, region, every=_EVERY_REGION)
    clean = browse.task_folder(rt, user.id, browse.clean_path(path))
    count = rt.objects.delete(user.id, clean)
    forget_stored(rt, user.id, clean)
    if count == 0:
        raise ResourceNotFound(f"path: nothing is stored at {path!r}.")
    return {"deleted": count}


@router.post("/copy")
def copy(
    rt: RuntimeDep, user: UserDep, source: str, target: str, region: str | None = None
) -> dict[str, int]:
    """Copy a file, or a folder with all in it, to where nothing is yet."""
    browse.check_region(rt, region)
    clean = browse.clean_path(source, "source")
    return {"copied": browse.copy(rt, user.id, clean, target)}


@router.post("/input_remote")
def input_remote(
    rt: RuntimeDep, user: UserDep, url: str, path: str, region: str | None = None
) -> dict[str, Any]:
    """Fetch a file from a URL into the storage, in the background; `/v1/storage/transfers` shows
    its progress."""
    browse.check_region(rt, region)
    if path.endswith("/"):
        raise Invalid(f"path: {path!r} is a folder; add the name of the file.")
    return transfer_json(transfers.begin_fetch(rt, user.id, url, browse.clean_path(path)))


class UploadPart(BaseModel):
    """Where one part of an export goes."""

    part_number: int = Field(ge=1, le=MOST_PARTS)
    part_url: Url


class Export(StrictBody):
    """A stored file, and where its parts go."""

    path: FilePath
    parts_size: int = Field(ge=1, le=limits.MAX_EXPORT_PART_BYTES)
    upload_parts: list[UploadPart] = Field(min_length=1, max_length=MOST_PARTS)
    complete_multipart_url: Url


@router.post(EXPORT_VERB)
def export_multipart(
    rt: RuntimeDep, user: UserDep, body: Export, region: str | None = None
) -> dict[str, Any]:
    """Send a stored file to a multipart upload of another S3, in the background;
    `/v1/storage/transfers` shows its progress."""
    browse.check_region(rt, region)
    given = sorted(body.upload_parts, key=lambda p: p.part_number)
    if [p.part_number for p in given] != list(range(1, len(given) + 1)):
        raise Invalid("upload_parts: the part numbers must be 1, 2, 3 and so on, each once.")
    transfer = transfers.begin_export(
        rt,
        user.id,
        browse.clean_path(body.path),
        body.parts_size,
        [p.part_url for p in given],
        body.complete_multipart_url,
    )
    return transfer_json(transfer)


@router.get("/size")
def size(rt: RuntimeDep, user: UserDep) -> int:
    """How many bytes the user has stored; with very many files, as of some minutes ago."""
    return rt.stored.bytes_of(user.id, fresh_s=0)


@router.get("/cost")
def cost(rt: RuntimeDep, user: UserDep) -> dict[str, Any]:
    """What storing this much for a month costs, at the operator's price."""
    price = rt.settings.storage_price_gb_month
    amount = rt.stored.bytes_of(user.id, fresh_s=0) / _GB * price if price else 0.0
    return {"estimated_monthly_cost": dollars(amount), "currency": "USD"}


@router.get("/list_buckets")
def list_buckets(rt: RuntimeDep, user: UserDep) -> list[dict[str, Any]]:
    """The storages that there are: one."""
    return [default_bucket(rt, user)]


@router.get("/default_bucket")
def default_bucket(rt: RuntimeDep, user: UserDep) -> dict[str, Any]:
    """The storage that is used when none is named."""
    return {
        "provider_id": "LOCAL",
        "name": rt.settings.s3_bucket or "local",
        "region": rt.region,
        "is_internal": True,
    }
