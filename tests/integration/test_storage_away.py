"""What users are told while the S3 store does not answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from scheduler.objects.base import StorageAway
from scheduler.objects.s3 import S3Store
from scheduler.services.accounts import create_key, create_user
from scheduler.store.engine import migrate
from simherd.local.stack import free_port
from tests.support.api import serving, user_of
from tests.support.parts import make_parts

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def away(monkeypatch: pytest.MonkeyPatch) -> S3Store:
    """A store at an address where nobody listens; it is tried again without a pause."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setattr("botocore.endpoint.time.sleep", lambda _: None)
    return S3Store("outputs", "us-east-1", f"http://127.0.0.1:{free_port()}")


def test_every_question_says_that_it_is_away(away: S3Store) -> None:
    for ask in (
        lambda: away.stat("ada", "a.zip"),
        lambda: away.read("ada", "a.zip", 0, 1),
        lambda: list(away.list("ada", "")),
        lambda: list(away.entries("ada", "")),
        lambda: list(away.unfinished(0.0)),
        lambda: away.copy("ada", "a", "b"),
        lambda: away.delete("ada", "a"),
        lambda: away.begin_upload("ada", "a"),
    ):
        with pytest.raises(StorageAway, match="does not answer"):
            ask()


def test_the_api_asks_to_try_again(away: S3Store, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'test.db'}"
    migrate(url)
    parts, _ = make_parts(url, "redis://unused", tmp_path)
    parts.__dict__["objects"] = away
    with parts.store.write() as session:
        key = create_key(session, create_user(session, "ada", "ada@localhost").id, "test")
    with serving(parts) as address, user_of(address, key) as user:
        answer = user.get("/storage/contents", params={"path": "study"})
    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == "5"
    assert "out of reach" in answer.json()["detail"]
