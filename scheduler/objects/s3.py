"""Object storage in an S3 bucket, reached through presigned URLs."""

from __future__ import annotations

import base64
import contextlib
import hashlib
from typing import TYPE_CHECKING, Any

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,
    HTTPClientError,
    IncompleteReadError,
)

from scheduler.objects.base import (
    NoSuchObject,
    ObjectEntry,
    ObjectInfo,
    PartsRefused,
    StorageUnavailable,
    Unfinished,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from scheduler.objects.base import Part, Verb

_METHODS = {"upload": "put_object", "download": "get_object"}
_MISSING = {"404", "NoSuchKey", "NotFound"}
#: Error codes for parts that are not those that were stored (Amazon S3 API reference,
#: CompleteMultipartUpload).
_BAD_PARTS = {
    *("EntityTooSmall", "InvalidArgument", "InvalidPart", "InvalidPartOrder", "MalformedXML")
}
#: Error codes for the creation of a bucket that exists.
_OURS = {"BucketAlreadyExists", "BucketAlreadyOwnedByYou"}

#: Seconds for a connection and between two pieces of a response, and the number of tries. A server
#: that accepts connections and never responds costs the caller half a minute.
QUICK: dict[str, Any] = {"connect_s": 3, "read_s": 10, "attempts": 3}
PATIENT: dict[str, Any] = {"connect_s": 5, "read_s": 60, "attempts": 8}
#: HTTP statuses of a server that is unavailable for a while.
_TROUBLED = {500, 502, 503, 504}

#: Size from which an object is copied in parts of this size, several at a time, bytes: in one
#: request S3 copies 5 GiB at the most (Amazon S3 API reference, CopyObject), and not quickly.
COPY_PART_BYTES = 256 * 1024**2

#: The prefix of all our keys.
_ROOT = "t/"


@contextlib.contextmanager
def _available() -> Iterator[None]:
    """Raise StorageUnavailable where the storage is unavailable."""
    try:
        yield
    except (ConnectionError, HTTPClientError, IncompleteReadError) as error:
        raise StorageUnavailable(f"The storage does not respond: {error}") from error
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] not in _TROUBLED:
            raise
        raise StorageUnavailable(f"The storage is unavailable: {error}") from error


class S3Store:
    """Objects as `t/USER/PATH` in one bucket. Credentials come from boto3's usual places."""

    def __init__(
        self,
        bucket: str,
        region: str,
        endpoint_url: str | None = None,
        public_url: str | None = None,
    ) -> None:
        """`public_url`: the address for users, where it differs: the host is signed too."""
        self._bucket = bucket
        #: For requests of which a caller waits for the result.
        self._client = _connect(region, endpoint_url, **QUICK)
        #: For requests on which the storage may work for long.
        self._patient = _connect(region, endpoint_url, **PATIENT)
        self._patient.meta.events.register("before-call.s3.DeleteObjects", _add_md5)
        self._public = _connect(region, public_url, **QUICK) if public_url else self._client

    @staticmethod
    def _object_key(user: str, path: str) -> str:
        return f"{_ROOT}{user}/{path}"

    def _at(self, user: str, path: str) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": self._object_key(user, path)}

    def make_bucket(self) -> str | None:
        """Create the bucket, unless it exists; return why it cannot be, as a sentence."""
        try:
            self._client.create_bucket(Bucket=self._bucket)
        except ClientError as error:
            code = error.response["Error"]["Code"]
            return None if code in _OURS else f"{self._bucket!r} is refused: {code}."
        except BotoCoreError as error:
            return f"The storage does not respond: {error}."
        return None

    def sign(
        self, user: str, path: str, verb: Verb, valid_s: float, *, public: bool = False
    ) -> str:
        """See `ObjectStore`."""
        client = self._public if public else self._client
        url: str = client.generate_presigned_url(
            _METHODS[verb], Params=self._at(user, path), ExpiresIn=int(valid_s)
        )
        return url

    def trouble(self) -> str | None:
        """See `ObjectStore`."""
        try:
            # One of our keys: the head of a bucket needs another permission than objects do.
            self._client.list_objects_v2(Bucket=self._bucket, Prefix=_ROOT, MaxKeys=1)
        except ClientError as error:
            return f"The bucket (SIMHERD_S3_BUCKET) refuses: {error.response['Error']['Code']}."
        return None

    def free_bytes(self) -> None:
        """See `ObjectStore`."""

    @_available()
    def stat(self, user: str, path: str) -> ObjectInfo | None:
        """See `ObjectStore`."""
        try:
            head = self._client.head_object(**self._at(user, path))
        except ClientError as error:
            if error.response["Error"]["Code"] in _MISSING:
                return None
            raise
        return ObjectInfo(path, head["ContentLength"], head["LastModified"].timestamp())

    @_available()
    def read(self, user: str, path: str, start: int, length: int) -> bytes:
        """See `ObjectStore`."""
        try:
            response = self._client.get_object(
                **self._at(user, path), Range=f"bytes={start}-{start + length - 1}"
            )
        except ClientError as error:
            code = error.response["Error"]["Code"]
            if code == "InvalidRange":
                return b""  # it begins after the end
            if code in _MISSING:
                raise NoSuchObject(path) from error
            raise
        data: bytes = response["Body"].read()
        return data

    @_available()
    def begin_upload(self, user: str, path: str) -> str:
        """See `ObjectStore`."""
        response = self._client.create_multipart_upload(**self._at(user, path))
        return str(response["UploadId"])

    def sign_part(self, user: str, path: str, upload: str, number: int, valid_s: float) -> str:
        """See `ObjectStore`."""
        url: str = self._client.generate_presigned_url(
            "upload_part",
            Params={**self._at(user, path), "UploadId": upload, "PartNumber": number},
            ExpiresIn=int(valid_s),
        )
        return url

    @_available()
    def store_part(self, user: str, path: str, upload: str, number: int, data: bytes) -> str:
        """See `ObjectStore`."""
        try:
            stored = self._patient.upload_part(
                **self._at(user, path), UploadId=upload, PartNumber=number, Body=data
            )
        except ClientError as error:
            if error.response["Error"]["Code"] == "NoSuchUpload":
                raise NoSuchObject(path) from error
            raise
        return str(stored["ETag"])

    @_available()
    def complete_upload(self, user: str, path: str, upload: str, parts: Sequence[Part]) -> int:
        """See `ObjectStore`."""
        try:
            self._patient.complete_multipart_upload(
                **self._at(user, path),
                UploadId=upload,
                MultipartUpload={"Parts": [{"PartNumber": n, "ETag": etag} for n, etag in parts]},
            )
        except ClientError as error:
            code = error.response["Error"]["Code"]
            if code in _BAD_PARTS:
                raise PartsRefused(code) from error
            # Completed before, and the response was lost: then the object exists.
            if code != "NoSuchUpload":
                raise
        info = self.stat(user, path)
        if info is None:
            raise NoSuchObject(path)
        return info.size

    @_available()
    def abort_upload(self, user: str, path: str, upload: str) -> None:
        """See `ObjectStore`."""
        try:
            self._client.abort_multipart_upload(**self._at(user, path), UploadId=upload)
        except ClientError as error:
            if error.response["Error"]["Code"] != "NoSuchUpload":
                raise

    def unfinished(self, before: float) -> Iterator[Unfinished]:
        """See `ObjectStore`."""
        pages = self._client.get_paginator("list_multipart_uploads")
        for page in _pages(pages.paginate(Bucket=self._bucket)):
            for upload in page.get("Uploads", []):
                if upload["Initiated"].timestamp() < before:
                    user, _, path = upload["Key"].removeprefix(_ROOT).partition("/")
                    yield Unfinished(user, path, upload["UploadId"])

    def _folder_key(self, user: str, folder: str) -> str:
        """Return the prefix of the keys of all objects in a folder."""
        clean = folder.strip("/")
        return self._object_key(user, f"{clean}/" if clean else "")

    def list(self, user: str, prefix: str) -> Iterator[ObjectInfo]:
        """See `ObjectStore`."""
        base, start = self._object_key(user, ""), self._folder_key(user, prefix)
        pages = self._client.get_paginator("list_objects_v2")
        for page in _pages(pages.paginate(Bucket=self._bucket, Prefix=start)):
            for item in page.get("Contents", []):
                yield ObjectInfo(
                    item["Key"].removeprefix(base), item["Size"], item["LastModified"].timestamp()
                )

    def entries(self, user: str, folder: str) -> Iterator[ObjectEntry]:
        """See `ObjectStore`."""
        start = self._folder_key(user, folder)
        pages = self._client.get_paginator("list_objects_v2")
        for page in _pages(pages.paginate(Bucket=self._bucket, Prefix=start, Delimiter="/")):
            for below in page.get("CommonPrefixes", []):
                yield ObjectEntry(below["Prefix"].removeprefix(start).rstrip("/"), None, None)
            for item in page.get("Contents", []):
                yield ObjectEntry(
                    item["Key"].removeprefix(start), item["Size"], item["LastModified"].timestamp()
                )

    @_available()
    def copy(self, user: str, source: str, target: str) -> None:
        """See `ObjectStore`."""
        try:
            self._patient.copy(
                self._at(user, source),
                self._bucket,
                self._object_key(user, target),
                Config=TransferConfig(
                    multipart_threshold=COPY_PART_BYTES, multipart_chunksize=COPY_PART_BYTES
                ),
            )
        except ClientError as error:
            if error.response["Error"]["Code"] in _MISSING:
                raise NoSuchObject(source) from error
            raise

    @_available()
    def delete(self, user: str, prefix: str) -> int:
        """See `ObjectStore`."""
        paths = [o.path for o in self.list(user, prefix)]
        if self.stat(user, prefix) is not None:
            paths.append(prefix)
        for i in range(0, len(paths), 1000):
            keys = [{"Key": self._object_key(user, p)} for p in paths[i : i + 1000]]
            self._patient.delete_objects(
                Bucket=self._bucket, Delete={"Objects": keys, "Quiet": True}
            )
        return len(paths)


def _pages(pages: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    with _available():
        yield from pages


def _connect(
    region: str, endpoint_url: str | None, *, connect_s: float, read_s: float, attempts: int
) -> Any:
    return boto3.client(
        "s3",
        region_name=region,
        endpoint_url=endpoint_url,
        config=Config(
            signature_version="s3v4",
            connect_timeout=connect_s,
            read_timeout=read_s,
            tcp_keepalive=True,
            retries={"mode": "standard", "total_max_attempts": attempts},
            # S3-compatible servers stumble over the newer default checksums.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            # "virtual" names the region in the URL. The name without it leads elsewhere while a
            # bucket is new, and a signature is good for one host.
            s3={"addressing_style": "path" if endpoint_url else "virtual"},
        ),
    )


def _add_md5(params: dict[str, Any], **_: Any) -> None:
    """Add the checksum that S3 servers demand of this request; older ones take no newer kind."""
    digest = hashlib.md5(params["body"], usedforsecurity=False).digest()
    params["headers"]["Content-MD5"] = base64.b64encode(digest).decode()
