"""The name of release 0.1: a script that it runs imports it at its first download; goes in 0.3."""

from simherd.transfers.ranged_download import Fetch

__all__ = ["Fetch"]
