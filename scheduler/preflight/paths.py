"""Folders and files that settings name."""

from __future__ import annotations

import os
import tempfile
from typing import TYPE_CHECKING

from scheduler.catalogue.tables import load
from scheduler.preflight.finding import PREFIX, Finding

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from scheduler.config import Settings


def of_paths(settings: Settings) -> Iterator[Finding]:
    """Folders that cannot be made or written, and tables that cannot be read."""
    if settings.storage_dir is not None:
        says = _unusable(settings.storage_dir, is_used=not settings.s3_bucket)
        if says:
            yield Finding(f"{PREFIX}STORAGE_DIR", says, True)
    # Not made here: the API and the recorder may run where there is no room for machines.
    says = _unusable(settings.machines_dir, is_used=False)
    if says:
        yield Finding(f"{PREFIX}MACHINES_DIR", says, True)
    types, images = settings.machine_types_file, settings.images_file
    yield from _table("MACHINE_TYPES_FILE", types, (types, None))
    yield from _table("IMAGES_FILE", images, (None, images))


def _unusable(folder: Path, *, is_used: bool) -> str:
    """Why a folder cannot be used, or nothing; one that is used is made."""
    # Of `os.path`: it returns False for what this account cannot see, where `Path` raises.
    if os.path.exists(folder) and not os.path.isdir(folder):
        return f"{folder} is not a folder"
    if not is_used:
        return ""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        # Not by the mode: root may do what the mode forbids, and not what the file system does.
        with tempfile.TemporaryFile(dir=folder):
            return ""
    except OSError as error:
        return (
            f"{folder} cannot be made or written: {error.strerror}. Name a folder that this "
            "account can write"
        )


def _table(
    name: str, file: Path | None, read: tuple[Path | None, Path | None]
) -> Iterator[Finding]:
    if file is None:
        return
    if not os.path.isfile(file):
        yield Finding(f"{PREFIX}{name}", f"there is no file {file}", True)
        return
    try:
        load(*read)
    except (ValueError, OSError) as error:  # also of TOML that cannot be read
        says = " ".join(str(error).split())
        yield Finding(f"{PREFIX}{name}", f"{file} cannot be used: {says}", True)
