"""Untrusted zip archives: executor and client unpack them by the same rules."""

from simherd.contract.archive.paths import ArchiveRejected
from simherd.contract.archive.unpack import ArchiveLimits, UnpackResult, unpack

__all__ = ["ArchiveLimits", "ArchiveRejected", "UnpackResult", "unpack"]
