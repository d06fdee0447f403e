"""Inputs that many tasks share: stored once, under a name that is made of what they are."""

from __future__ import annotations

import hashlib
import os
import stat
from typing import TYPE_CHECKING

from simherd.errors import InvalidInput, NotFound
from simherd.http import api
from simherd.transfers import input_archive, signed_url
from simherd.transfers.download import progress_bar

if TYPE_CHECKING:
    from pathlib import Path

    from simherd.transfers.input_archive import InputEntry

#: Folder of the user's storage that holds them.
FOLDER = "shared"


def store_shared(folder: Path) -> str:
    """Store a folder in the user's storage as an archive, unless it is there; return its path.

    A folder with the same names, contents and modes is uploaded once.

    Raises:
        InvalidInput: the folder cannot be sent, or changed while it was.
        TransferError: it could not be uploaded.
    """
    entries = input_archive.scan(folder)
    path = f"{FOLDER}/{_digest(entries)}.zip"
    if not _is_stored(path):
        (url,) = api().get("/storage/signed-urls", operation="upload", paths=[path])
        with progress_bar(folder.name) as progress:
            signed_url.upload(url, lambda: input_archive.zipped(entries, progress))
        if _digest(input_archive.scan(folder)) != _digest_of(path):
            api().delete("/storage/", path=path)
            raise InvalidInput(
                f"shared_dir: {str(folder)!r} changed while it was uploaded. Submit again."
            )
    return path


def _digest_of(path: str) -> str:
    return path.removeprefix(f"{FOLDER}/").removesuffix(".zip")


def _is_stored(path: str) -> bool:
    try:
        api().get("/storage/signed-urls", operation="download", paths=[path])
    except NotFound:
        return False
    return True


def _digest(entries: list[InputEntry]) -> str:
    """SHA-256 over names, kinds, modes and contents."""
    total = hashlib.sha256()
    for entry in sorted(entries, key=lambda e: e.name):
        total.update(f"{entry.name}\0{_kind(entry)}\0".encode())
    return total.hexdigest()


def _kind(entry: InputEntry) -> str:
    if entry.name.endswith("/"):
        return "folder"
    if entry.is_link:
        return f"link {os.readlink(entry.path)}"
    with entry.path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return f"file {stat.S_IMODE(os.fstat(file.fileno()).st_mode):o} {digest}"
