"""Packing outputs, whatever a simulation left behind."""

from executor.archive.pack import PackResult, Stamp, pack, snapshot

__all__ = ["PackResult", "Stamp", "pack", "snapshot"]
