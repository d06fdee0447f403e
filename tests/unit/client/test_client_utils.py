"""Durations and sizes as people write and read them."""

from __future__ import annotations

import pytest

from simherd.errors import InvalidInput
from simherd.utils import (
    download_from_url,
    format_bytes,
    format_money,
    format_seconds,
    parse_duration,
    parse_size,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("1h30m", 5400),
        ("2d", 172_800),
        (" 1H 30M ", 5400),
        ("1.5m", 90),
        ("0.5", 0.5),
        (90, 90),
        (0.25, 0.25),
    ],
)
def test_durations_are_read(text: str | float, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "5x", "1h30", "-5m", "1e3", "m", "h1", "nan", "inf"])
def test_what_is_not_a_duration_is_refused_with_its_field(text: str) -> None:
    with pytest.raises(InvalidInput, match=r"^time_to_live: .* is not a duration\. Write it like"):
        parse_duration(text, "time_to_live")


@pytest.mark.parametrize("text", [0, "0", "0s", "0h0m"])
def test_a_duration_is_more_than_zero(text: str | float) -> None:
    with pytest.raises(InvalidInput, match=r"^duration: .* must be more than zero"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("100", 100),
        ("100B", 100),
        ("100MB", 100_000_000),
        ("1.5GiB", 1_610_612_736),
        ("2 kib", 2048),
        ("1T", 10**12),
    ],
)
def test_sizes_are_read(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "5 apples", "-1MB", "1PB", "1.MB", "MB"])
def test_what_is_not_a_size_is_refused_with_its_field(text: str) -> None:
    with pytest.raises(InvalidInput, match=r"^leave: .* is not a size\. Write it like"):
        parse_size(text, "leave")


@pytest.mark.parametrize(
    ("size", "shown"),
    [(None, "-"), (0, "0 B"), (1023, "1023 B"), (1024, "1.00 KiB"), (5 * 1024**4, "5.00 TiB")],
)
def test_sizes_are_shown(size: float | None, shown: str) -> None:
    assert format_bytes(size) == shown


@pytest.mark.parametrize(
    ("amount", "shown"),
    [
        (None, "-"),
        (0, "US$ 0.00"),
        (0.012345, "US$ 0.0123"),
        (1, "US$ 1.00"),
        (12.3, "US$ 12.30"),
    ],
)
def test_money_is_shown(amount: float | None, shown: str) -> None:
    assert format_money(amount) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"), [(None, "-"), (0.5, "0.50 s"), (60, "0:01:00"), (3661.4, "1:01:01")]
)
def test_seconds_are_shown(seconds: float | None, shown: str) -> None:
    assert format_seconds(seconds) == shown


@pytest.mark.parametrize("url", ["ftp://host/a", "https:///a", "https://host/", "a.zip", ""])
def test_only_an_address_of_a_file_is_downloaded(url: str) -> None:
    with pytest.raises(InvalidInput, match=r"^url: "):
        download_from_url(url)
