"""Packing outputs, whatever a simulation left behind."""

from executor.archive.pack import Listing, PackOptions, PackResult, pack, readable
from executor.archive.stamps import Stamp, load_stamps, save_stamps, snapshot

__all__ = [
    "Listing",
    "PackOptions",
    "PackResult",
    "Stamp",
    "load_stamps",
    "pack",
    "readable",
    "save_stamps",
    "snapshot",
]
