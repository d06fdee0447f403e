"""The name of release 0.1: a script that it runs imports it at its first download; goes in 0.3."""

from simherd.transfers.download import download_archive, download_members, progress_bar

__all__ = ["download_archive", "download_members", "progress_bar"]
