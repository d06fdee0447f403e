"""The source that a setting names."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import httpx

from executor.spot.aws import AwsSource
from executor.spot.azure import AzureSource
from executor.spot.gcp import GcpSource
from executor.spot.simple import FileSource, HttpSource

if TYPE_CHECKING:
    from collections.abc import Callable

    from executor.spot.notice import NoticeSource

_CLOUDS: dict[str, Callable[[], NoticeSource]] = {
    "aws": AwsSource,
    "gcp": GcpSource,
    "azure": AzureSource,
}


def open_source(text: str) -> NoticeSource | None:
    """Return the source that SIMHERD_SPOT_NOTICES names; None for "", a machine that stays.

    It makes no request yet.

    Raises:
        ValueError: the text names none; the message says what it can be.
    """
    if not text:
        return None
    if text in _CLOUDS:
        return _CLOUDS[text]()
    try:
        return _from_url(text)
    except (ValueError, httpx.InvalidURL) as error:
        raise ValueError(
            f"SIMHERD_SPOT_NOTICES is {text!r} ({error}); it can be {', '.join(_CLOUDS)}, "
            "file:///path, http://host/path, https://host/path, or empty for no notices."
        ) from error


def _from_url(text: str) -> NoticeSource:
    parts = urlsplit(text)
    if parts.scheme == "file":
        path = Path(unquote(parts.path))
        if parts.netloc not in ("", "localhost") or not path.is_absolute() or path == Path("/"):
            raise ValueError("not a file of this machine")
        if "\0" in str(path) or parts.query or parts.fragment:
            raise ValueError("not the path of a file")
        return FileSource(path)
    if parts.scheme in ("http", "https"):
        # httpx raises for most of what is wrong, `port` for one that is out of range.
        if not httpx.URL(text).host or parts.port == 0 or any(c.isspace() for c in text):
            raise ValueError("no host or port")
        return HttpSource(text)
    raise ValueError("not a source")
