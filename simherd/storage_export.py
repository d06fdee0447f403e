"""Exports to a bucket of the user: the upload is begun and signed here, the server gets
signed URLs and no keys."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import httpx

from simherd.contract import limits
from simherd.contract.upload_grant import LEAST_PART_BYTES, MIB, MOST_PARTS
from simherd.errors import InvalidInput, TransferError
from simherd.http import api
from simherd.transfers.s3_presign import S3Account, s3_account

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Seconds for which the URLs are good: a large export has its turns beside others.
_VALID_S = 6 * 86400
#: Seconds for beginning or giving up an upload.
_TIMEOUT_S = 60


@contextmanager
def s3_upload(
    path: str, bucket: str, file_name: str | None, part_size_mb: int, region: str | None
) -> Iterator[tuple[list[str], str]]:
    """Begin an upload in parts; give it up where the body raises.

    Yields:
        The signed URL of each part, and the one that completes the upload.

    Raises:
        InvalidInput, TransferError: as of `storage.export_to_s3`.
    """
    part_size = part_size_mb * MIB
    if not LEAST_PART_BYTES <= part_size <= limits.MAX_EXPORT_PART_BYTES:
        most = limits.MAX_EXPORT_PART_BYTES // MIB
        raise InvalidInput(
            f"part_size_mb: {part_size_mb} must be from {LEAST_PART_BYTES // MIB} to {most}."
        )
    count = max(1, -(-_size(path, region) // part_size))
    if count > MOST_PARTS:
        raise InvalidInput(
            f"part_size_mb: {part_size_mb} makes {count} parts, and S3 takes {MOST_PARTS}."
        )
    account, key = s3_account(), file_name or PurePosixPath(path).name
    upload = {"uploadId": _begin(account, bucket, key)}
    urls = [
        account.presigned("PUT", bucket, key, {"partNumber": str(n), **upload}, _VALID_S)
        for n in range(1, count + 1)
    ]
    complete = account.presigned("POST", bucket, key, upload, _VALID_S)
    try:
        yield urls, complete
    except BaseException:
        # S3 charges for parts until they are given up.
        httpx.delete(
            account.presigned("DELETE", bucket, key, upload, _TIMEOUT_S), timeout=_TIMEOUT_S
        )
        raise


def _size(path: str, region: str | None) -> int:
    rows = api().get("/v1/storage/files", path=path, region=region)
    if len(rows) != 1 or rows[0]["path"].startswith(f"{path.strip('/')}/"):
        raise InvalidInput(f"path: {path!r} is a folder; export its files one by one.")
    return int(rows[0]["size_bytes"])


def _begin(account: S3Account, bucket: str, key: str) -> str:
    """Begin an upload in parts and return its id."""
    url = account.presigned("POST", bucket, key, {"uploads": ""}, _TIMEOUT_S)
    try:
        response = httpx.post(url, timeout=_TIMEOUT_S)
        response.raise_for_status()
        found = ElementTree.fromstring(response.content).find("{*}UploadId")
    except (httpx.HTTPError, ElementTree.ParseError) as error:
        raise TransferError(f"bucket: {bucket!r} takes no upload: {error}") from error
    if found is None or not found.text:
        raise TransferError(f"bucket: {bucket!r} did not return an id for the upload.")
    return found.text
