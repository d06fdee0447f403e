"""Files between this machine and the storage, with a progress bar where somebody looks."""

from __future__ import annotations

import functools
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simherd.contract.archive import ArchiveRejected
from simherd.contract.archive.paths import checked_parts
from simherd.contract.objects import INPUT_ROOT, OUTPUT_ROOT
from simherd.errors import InvalidInput, NotFound
from simherd.http import api
from simherd.transfers import input_archive, ranged_download, signed_url
from simherd.transfers.download import Total, progress_bar
from simherd.transfers.zip_members import MemberDownload

if TYPE_CHECKING:
    from collections.abc import Iterator

_CHUNK = 1024 * 1024
#: Files whose URLs are asked for at a time: more would make too long a request.
_BATCH = 100
#: Folders below each other in a path, at the most.
_DEPTH = 128
_ZIP = ".zip"


def upload_files(local: Path, remote_dir: str, region: str | None) -> list[str]:
    """See `storage.upload`."""
    files = _local_files(local)
    paths = [f"{remote_dir.strip('/')}/{name}".lstrip("/") for name in files]
    sources = list(files.values())
    with progress_bar(local.name) as shown:
        total = Total(shown)
        parts = [total.part(file.stat().st_size) for file in sources]
        for i in range(0, len(paths), _BATCH):
            some = slice(i, i + _BATCH)
            urls = api().get(
                "/storage/signed-urls",
                operation="upload",
                paths=paths[some],
                sizes=[file.stat().st_size for file in sources[some]],
                region=region,
            )
            for url, file, part in zip(urls, sources[some], parts[some], strict=True):
                size = file.stat().st_size
                signed_url.upload(url, functools.partial(_read, file, part), size)
    return paths


def _local_files(local: Path) -> dict[str, Path]:
    """The files to upload, by their names below the remote folder."""
    if local.is_file():
        return {local.name: local}
    if not local.is_dir():
        raise InvalidInput(f"local_path: there is no file or folder {str(local)!r}.")
    found = {}
    for folder, folders, names in os.walk(local):
        folders.sort()
        for name in sorted(names):
            file = Path(folder, name)
            if not file.is_file():
                raise InvalidInput(f"local_path: {str(file)!r} is not a file that can be read.")
            found[file.relative_to(local).as_posix()] = file
    if not found:
        raise InvalidInput(f"local_path: there are no files in {str(local)!r}.")
    return found


def _read(file: Path, progress: signed_url.Progress) -> Iterator[bytes]:
    """Yield a file's bytes, reporting the progress."""
    size, done = file.stat().st_size, 0
    with file.open("rb") as reader:
        while data := reader.read(_CHUNK):
            yield data
            done += len(data)
            progress(done, size)


def download_files(remote: str, local_dir: Path, decompress: bool, region: str | None) -> Path:
    """See `storage.download`."""
    wanted = remote.strip("/")
    try:
        rows = _rows(wanted, region)
    except NotFound:
        archive_path, inner = _inside_zip(wanted)
        if not inner:
            raise
        return _download_member(archive_path, inner, local_dir, region)
    whole = local_dir.joinpath(*_parts(wanted))
    # For a single file the server returns the path at which it is really stored.
    single = len(rows) == 1 and not rows[0]["path"].startswith(f"{wanted}/")
    written = []
    with progress_bar(whole.name) as shown:
        total = Total(shown)
        parts = [total.part(row["size_bytes"]) for row in rows]
        for row, part in zip(rows, parts, strict=True):
            name = "" if single else row["path"].removeprefix(wanted).strip("/")
            target = whole.joinpath(*_parts(name)) if name else whole
            ranged_download.download(row["url"], target, part)
            written.append(target)
    unpacked = [_unpacked(file) for file in written] if decompress else written
    return unpacked[0] if single else whole


def _rows(path: str, region: str | None) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = api().get("/v1/storage/files", path=path, region=region)
    return rows


def _parts(name: str) -> tuple[str, ...]:
    try:
        return checked_parts(name, _DEPTH)
    except ArchiveRejected as error:
        raise InvalidInput(f"remote_path: {error}") from error


def _unpacked(file: Path) -> Path:
    """A zip as the folder of its name, which takes its place; another file as it is."""
    if file.suffix != _ZIP:
        return file
    folder = file.with_suffix("")
    input_archive.extract_all(file, folder)
    file.unlink()
    return folder


def _inside_zip(path: str) -> tuple[str, str]:
    """The zip that a path leads into, and the name in it; the name is empty where there is none."""
    names = path.split("/")
    for i, name in enumerate(names[:-1], 1):
        if name.endswith(_ZIP):
            return "/".join(names[:i]), "/".join(names[i:])
    return path, ""


def _download_member(path: str, inner: str, local_dir: Path, region: str | None) -> Path:
    """Fetch a file, or all below a folder, from inside a stored zip, and nothing else of it.

    A task's archives have one folder around everything, which may be left out.
    """
    (row,) = _rows(path, region)
    folder = local_dir.joinpath(*_parts(path.removesuffix(_ZIP)))
    with progress_bar(inner) as shown:
        for root in ("", OUTPUT_ROOT, INPUT_ROOT):
            fetch = MemberDownload(row["url"], root, folder, shown or (lambda _have, _size: None))
            with suppress(InvalidInput):
                fetch.run([inner])
                return folder / inner
    raise InvalidInput(f"remote_path: there is no {inner!r} in {path}.")
