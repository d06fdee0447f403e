"""Small helpers: fetching example inputs, reading durations, writing sizes."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from simherd.errors import InvalidInput

_UNITS_S = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(?:([kmgt])(i)?)?b?")
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?[dhms])+|\d+(?:\.\d+)?")


def parse_duration(text: str | float, name: str = "duration") -> float:
    """Seconds of a duration such as `1h30m`, `90s`, `2d` or a bare number of seconds.

    Raises:
        InvalidInput: it is not positive, or cannot be read; the message starts with `name`.
    """
    given = str(text).strip().lower().replace(" ", "")
    if not _DURATION.fullmatch(given):
        raise InvalidInput(f"{name}: {text!r} is not a duration. Write it like 1h30m, 90s or 2d.")
    if given[-1].isdigit():
        seconds = float(given)
    else:
        pairs = re.findall(r"([\d.]+)([dhms])", given)
        seconds = sum(float(number) * _UNITS_S[unit] for number, unit in pairs)
    if seconds <= 0:
        raise InvalidInput(f"{name}: {text!r} must be more than zero.")
    return seconds


def parse_size(text: str, name: str = "size") -> int:
    """Bytes of a size such as `100MB`, `1.5GiB` or a bare number of bytes.

    Raises:
        InvalidInput: it cannot be read; the message starts with `name`.
    """
    found = _SIZE.fullmatch(text.strip().lower())
    if not found:
        raise InvalidInput(f"{name}: {text!r} is not a size. Write it like 100MB or 2GiB.")
    number, prefix, binary = found.groups()
    return int(float(number) * (1024 if binary else 1000) ** " kmgt".index(prefix or " "))


def format_bytes(size: float | None) -> str:
    """A size for people, in binary units."""
    if size is None:
        return "-"
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.2f} {unit}"
        size /= 1024
    return f"{size:.2f} TiB"


def format_money(amount: float | None) -> str:
    """US$ for people: cents, and three digits of what is less than a dollar."""
    if amount is None:
        return "-"
    return f"US$ {amount:.2f}" if amount >= 1 or amount == 0 else f"US$ {amount:.3g}"


def format_seconds(seconds: float | None) -> str:
    """A duration for people."""
    if seconds is None:
        return "-"
    if seconds < 60:
        return f"{seconds:.2f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"


def download_from_url(url: str, unzip: bool = False, save_path: str | Path | None = None) -> str:
    """Download a file, such as a guide's example input, and return its path.

    Args:
        url: an `http` or `https` address.
        unzip: unpack the zip beside itself, remove it, and return the folder.
        save_path: where to write the file; by default its own name in the current folder.

    Raises:
        InvalidInput: `url` is not a web address with a file name.
        TransferError: it could not be fetched whole, or is not a zip.
    """
    # heavy, and most programs never need them
    from simherd.transfers import input_archive, ranged_download

    parts = urlsplit(url)
    name = PurePosixPath(unquote(parts.path)).name
    if parts.scheme not in {"http", "https"} or not parts.netloc or not name:
        raise InvalidInput(f"url: {url!r} is not an http(s) address of a file.")
    target = Path(save_path or name)
    ranged_download.download(url, target)
    if not unzip:
        return str(target)
    folder = target.with_suffix("")
    input_archive.extract_all(target, folder, root=folder.name)
    target.unlink()
    return str(folder)
