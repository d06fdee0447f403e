"""Archives as tests need them, good and bad ones."""

from __future__ import annotations

import stat
import warnings
import zipfile
from typing import TYPE_CHECKING, Any

from executor.archive import PackOptions
from executor.archive import pack as pack_into

if TYPE_CHECKING:
    from pathlib import Path

    from executor.archive.pack import PackResult

Entry = tuple[str, bytes, int]


def pack(root: Path, archive: Path, prefix: str = "artifacts/", **options: Any) -> PackResult:
    """Pack into a file."""
    with archive.open("wb") as out:
        return pack_into(root, out, PackOptions(**options), prefix=prefix)


FILE, FOLDER, LINK = stat.S_IFREG | 0o644, stat.S_IFDIR | 0o755, stat.S_IFLNK | 0o777


def file(name: str, data: bytes = b"x", mode: int = FILE) -> Entry:
    return name, data, mode


def link(name: str, target: str) -> Entry:
    return name, target.encode(), LINK


def archive_of(folder: Path, *entries: Entry, method: int = zipfile.ZIP_DEFLATED) -> Path:
    path = folder / "in.zip"
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w", method) as zipped:
        warnings.simplefilter("ignore")  # about names that occur twice: here on purpose
        for name, data, mode in entries:
            info = zipfile.ZipInfo("placeholder")
            info.filename = name
            info.external_attr = mode << 16
            info.compress_type = method
            zipped.writestr(info, data)
    return path


def tree(root: Path) -> dict[str, bytes | None]:
    """Path -> contents, None for folders."""
    return {
        str(path.relative_to(root)): None if path.is_dir() else path.read_bytes()
        for path in sorted(root.rglob("*"))
    }
