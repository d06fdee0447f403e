"""Packing outputs, whatever a simulation left behind."""

from executor.archive.pack import PackResult, Stamp, load_stamps, pack, save_stamps, snapshot

__all__ = ["PackResult", "Stamp", "load_stamps", "pack", "save_stamps", "snapshot"]
