"""The files that `make fleet` writes, and what it says of those of an older one."""

from __future__ import annotations

import os
import ssl
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.conftest import REPOSITORY

if TYPE_CHECKING:
    from pathlib import Path

EXAMPLE = REPOSITORY / "deploy" / ".env.example"
#: What the first fleets knew nothing of.
NEW = ("PROXY_IMAGE", "FRONT_SUBNET")


@pytest.fixture
def older(tmp_path: Path) -> Path:
    lines = EXAMPLE.read_text().splitlines()
    kept = [line for line in lines if not line.startswith(NEW)]
    text = "\n".join(kept).replace("SECRETS_DIR=./secrets", f"SECRETS_DIR={tmp_path}/secrets")
    (tmp_path / ".env").write_text(text + "\n")
    return tmp_path


def _run(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, REPOSITORY / "scripts" / "fleet_files.py", folder],
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_an_older_fleet_gets_what_it_lacks_and_a_certificate(older: Path) -> None:
    before = (older / ".env").read_text()
    done = _run(older)
    assert done.returncode == 0, done.stderr
    after = (older / ".env").read_text()
    assert after.startswith(before)
    assert all(f"\n{name}=" in after for name in NEW)
    secrets = older / "secrets"
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(secrets / "proxy_certificate", secrets / "proxy_key")
    trusted = dict(
        line.split("=", 1) for line in (secrets / "connection.env").read_text().splitlines()
    )["SSL_CERT_FILE"]
    ssl.create_default_context(cafile=trusted)
    assert _run(older).returncode == 0
    assert (older / ".env").read_text() == after


def test_a_given_certificate_is_used_and_clients_trust_what_they_trust(
    older: Path, tmp_path: Path
) -> None:
    _run(older)
    secrets = older / "secrets"
    chain, key = (secrets / "proxy_certificate").read_text(), (secrets / "proxy_key").read_text()
    (tmp_path / "chain.pem").write_text(chain)
    (tmp_path / "key.pem").write_text(key)
    for name in ("proxy_certificate", "proxy_key", "connection.pem"):
        (secrets / name).unlink()
    given = {
        "PROXY_CERTIFICATE_FILE": str(tmp_path / "chain.pem"),
        "PROXY_KEY_FILE": str(tmp_path / "key.pem"),
    }
    assert _run(older, **given).returncode == 0
    assert (secrets / "proxy_certificate").read_text() == chain
    assert "SSL_CERT_FILE" not in (secrets / "connection.env").read_text()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("PUBLIC_URL=https://127.0.0.1:8000", "PUBLIC_URL=http://127.0.0.1:8000"),
        ("S3_PUBLIC_URL=https://", "S3_PUBLIC_URL=http://"),
        ("API_PORT=8000", "API_PORT=8000-8003"),
    ],
)
def test_what_does_not_go_with_the_proxy_is_named(older: Path, before: str, after: str) -> None:
    file = older / ".env"
    text = file.read_text()
    assert f"\n{before}" in text
    file.write_text(text.replace(f"\n{before}", f"\n{after}"))
    done = _run(older)
    assert done.returncode == 1
    assert after.partition("=")[0] in done.stderr
