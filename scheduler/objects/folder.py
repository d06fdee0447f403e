"""Object storage in a local folder, reached through URLs that the API signs and serves."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from scheduler.objects.base import NoSuchObject, ObjectEntry, ObjectInfo, PathTaken, Unfinished
from scheduler.objects.file_urls import FileUrls
from simherd.contract.objects import normalise
from simherd.contract.upload_grant import PART_VERB, part_offset

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from scheduler.objects.base import Part, Verb

_UPLOAD = re.compile("[0-9a-f]{32}")
#: Bytes free below which the disk is taken to be full.
_LEAST_FREE_BYTES = 64 * 1024**2
#: Start of the names of uploads that have not ended; they are not objects yet.
TEMPORARY = ".upload-"


class FolderStore:
    """Objects as files below `root`/user/."""

    def __init__(self, root: Path, public_url: str, signing_key: str) -> None:
        self._root = root
        self.urls = FileUrls(public_url, signing_key)
        root.mkdir(parents=True, exist_ok=True, mode=0o700)

    def sign(
        self, user: str, path: str, verb: Verb, valid_s: float, *, public: bool = False
    ) -> str:
        """See `ObjectStore`."""
        return self.urls.sign(user, path, verb, valid_s)

    def file(self, user: str, path: str) -> Path:
        """Return the file that holds an object."""
        return self._root / normalise(user) / normalise(path)

    def room_for(self, user: str, path: str) -> Path:
        """Create the folder for a new object; return its file. Raises PathTaken."""
        file = self.file(user, path)
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            if file.is_dir():
                file.rmdir()  # an empty folder does not count
        except OSError as error:
            raise PathTaken(path) from error
        return file

    def trouble(self) -> str | None:
        """See `ObjectStore`."""
        if not os.access(self._root, os.W_OK | os.X_OK):
            return "The storage's folder (SIMHERD_STORAGE_DIR) is gone, or cannot be written to."
        if self.free_bytes() < _LEAST_FREE_BYTES:
            return "The disk of the storage's folder (SIMHERD_STORAGE_DIR) is full."
        return None

    def free_bytes(self) -> int:
        """See `ObjectStore`."""
        return shutil.disk_usage(self._root).free

    def stat(self, user: str, path: str) -> ObjectInfo | None:
        """See `ObjectStore`."""
        try:
            info = self.file(user, path).stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        if not os.path.isfile(self.file(user, path)):
            return None
        return ObjectInfo(path, info.st_size, info.st_mtime)

    def read(self, user: str, path: str, start: int, length: int) -> bytes:
        """See `ObjectStore`."""
        try:
            with self.file(user, path).open("rb") as file:
                file.seek(start)
                return file.read(length)
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
            raise NoSuchObject(path) from error

    def begin_upload(self, user: str, path: str) -> str:
        """See `ObjectStore`."""
        upload = secrets.token_hex(16)
        self.room_for(user, path)
        self.part_file(user, path, upload).touch(mode=0o600)
        return upload

    def part_file(self, user: str, path: str, upload: str) -> Path:
        """Return the file that takes the parts of an upload, each at its place.
        Raises NoSuchObject: `upload` cannot be the name of one."""
        if not _UPLOAD.fullmatch(upload):
            raise NoSuchObject(path)
        return self.file(user, path).with_name(TEMPORARY + upload)

    def sign_part(self, user: str, path: str, upload: str, number: int, valid_s: float) -> str:
        """See `ObjectStore`."""
        self.part_file(user, path, upload)
        return self.urls.sign(user, path, f"{PART_VERB}:{upload}:{number}", valid_s)

    def store_part(self, user: str, path: str, upload: str, number: int, data: bytes) -> str:
        """See `ObjectStore`."""
        try:
            with self.part_file(user, path, upload).open("r+b") as file:
                file.seek(part_offset(number))
                file.write(data)
        except FileNotFoundError as error:
            raise NoSuchObject(path) from error
        return f'"{hashlib.md5(data, usedforsecurity=False).hexdigest()}"'

    def complete_upload(self, user: str, path: str, upload: str, parts: Sequence[Part]) -> int:
        """See `ObjectStore`."""
        # Completed before, and the response was lost: then the object exists.
        with contextlib.suppress(FileNotFoundError):
            os.replace(self.part_file(user, path, upload), self.file(user, path))
        info = self.stat(user, path)
        if info is None:
            raise NoSuchObject(path)
        return info.size

    def abort_upload(self, user: str, path: str, upload: str) -> None:
        """See `ObjectStore`."""
        with contextlib.suppress(NoSuchObject):
            self.part_file(user, path, upload).unlink(missing_ok=True)

    def unfinished(self, before: float) -> Iterator[Unfinished]:
        """See `ObjectStore`."""
        for file in self._root.rglob(f"{TEMPORARY}*"):
            upload = file.name.removeprefix(TEMPORARY)
            if _UPLOAD.fullmatch(upload) and file.stat().st_mtime < before:
                user, _, folder = file.parent.relative_to(self._root).as_posix().partition("/")
                # The object's name is not needed to find the parts.
                yield Unfinished(user, f"{folder}/{file.name}", upload)

    def list(self, user: str, prefix: str) -> Iterator[ObjectInfo]:
        """See `ObjectStore`."""
        base = self._root / normalise(user)
        top = base / normalise(prefix) if prefix.strip("/") else base
        for folder, names, files in os.walk(top):
            names.sort()
            for name in sorted(files):
                file = Path(folder, name)
                if name.startswith(TEMPORARY):
                    continue
                info = file.stat()
                yield ObjectInfo(file.relative_to(base).as_posix(), info.st_size, info.st_mtime)

    def entries(self, user: str, folder: str) -> Iterator[ObjectEntry]:
        """See `ObjectStore`."""
        base = self._root / normalise(user)
        top = base / normalise(folder) if folder.strip("/") else base
        try:
            items = list(os.scandir(top))
        except (FileNotFoundError, NotADirectoryError):
            return
        for item in items:
            if item.is_dir():
                below = (Path(item.path).relative_to(base)).as_posix()
                # Only a folder with objects counts as one.
                if next(self.list(user, below), None) is not None:
                    yield ObjectEntry(item.name, None, None)
            elif not item.name.startswith(TEMPORARY):
                info = item.stat()
                yield ObjectEntry(item.name, info.st_size, info.st_mtime)

    def copy(self, user: str, source: str, target: str) -> None:
        """See `ObjectStore`. Both names share the same bytes, which are never written to."""
        file = self.room_for(user, target)
        temporary = file.with_name(TEMPORARY + secrets.token_hex(8))
        try:
            os.link(self.file(user, source), temporary)
            os.replace(temporary, file)
        except (FileNotFoundError, NotADirectoryError, PermissionError) as error:
            raise NoSuchObject(source) from error
        finally:
            temporary.unlink(missing_ok=True)

    def delete(self, user: str, prefix: str) -> int:
        """See `ObjectStore`."""
        target = self.file(user, prefix)
        if target.is_file():
            target.unlink()
            return 1
        count = sum(1 for _ in self.list(user, prefix))
        shutil.rmtree(target, ignore_errors=True)
        return count
