"""Packing outputs, whatever a simulation left behind."""

from executor.archive.pack import Listing, PackOptions, PackResult, pack
from executor.archive.stamps import Stamp, load_stamps, save_stamps, snapshot

__all__ = [
    "Listing",
    "PackOptions",
    "PackResult",
    "Stamp",
    "load_stamps",
    "pack",
    "save_stamps",
    "snapshot",
]
