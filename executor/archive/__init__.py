"""Zip archives in and out: inputs are unpacked, outputs packed, neither side trusted."""

from executor.archive.pack import PackResult, Stamp, pack, snapshot
from executor.archive.paths import ArchiveRejected
from executor.archive.unpack import ArchiveLimits, UnpackResult, unpack

__all__ = [
    "ArchiveLimits",
    "ArchiveRejected",
    "PackResult",
    "Stamp",
    "UnpackResult",
    "pack",
    "snapshot",
    "unpack",
]
