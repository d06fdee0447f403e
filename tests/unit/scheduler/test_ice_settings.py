"""SIMHERD_ICE_SERVERS."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from scheduler.config import Settings


def settings(servers: str) -> Settings:
    return Settings(
        database_url="sqlite://",
        redis_url="redis://x",
        broker_url="redis://x",
        signing_key="key",
        ice_servers=servers,
    )


@pytest.mark.parametrize(
    ("given", "urls"),
    [
        ("", []),
        ("stun:stun.example.org", ["stun:stun.example.org"]),
        (
            "stun:10.0.0.1:3478, turn:10.0.0.1:3478?transport=tcp,turns:a.b",
            ["stun:10.0.0.1:3478", "turn:10.0.0.1:3478?transport=tcp", "turns:a.b"],
        ),
    ],
)
def test_urls_have_commas_between(given: str, urls: list[str]) -> None:
    assert settings(given).ice_urls == urls


@pytest.mark.parametrize(
    "given", ["10.0.0.1:3478", "stun:", "http://a", "turn:me:secret@a", "stun:a?transport=tcp"]
)
def test_an_invalid_url_is_refused_at_the_start(given: str) -> None:
    with pytest.raises(ValidationError, match="is not stun:HOST"):
        settings(given)
