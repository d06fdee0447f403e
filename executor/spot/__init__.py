"""Spot notices."""

from __future__ import annotations


def open_source(text: str) -> None:
    """Placeholder."""
