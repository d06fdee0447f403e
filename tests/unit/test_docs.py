"""Pages that are written by hand, beside what they speak of."""

from __future__ import annotations

import re
import subprocess
import tomllib
from typing import TYPE_CHECKING

import pytest

from scheduler.domain.limits import JOIN_S, LEAST_SIGNING_KEY
from simherd import simulators
from simherd.contract import limits
from simherd.local.redis_settings import REDIS_BULK_BYTES, REDIS_QUERY_BYTES
from tests.conftest import REPOSITORY

if TYPE_CHECKING:
    from pathlib import Path

DOCS = REPOSITORY / "docs"


@pytest.mark.parametrize("name", [n for n in dir(simulators) if n[0].isupper()])
def test_every_simulator_is_in_the_reference(name: str) -> None:
    assert name in (DOCS / "reference" / "simulators.md").read_text()


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=lambda page: page.name)
def test_no_table_is_cut_by_a_blank_line(page: Path) -> None:
    before, is_code = "", False
    lines = page.read_text().splitlines()
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        is_code ^= line.startswith("```")
        if line.startswith("|") and not before.startswith("|") and not is_code:
            assert re.fullmatch(r"\|[\s:|-]+\|", following), f"a row without a heading: {line}"
        before = line


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=lambda page: page.name)
def test_every_test_that_a_page_names_exists(page: Path) -> None:
    for file, name in re.findall(r"(tests/[\w/]+\.py)::(\w+)", page.read_text()):
        assert f"def {name}(" in (REPOSITORY / file).read_text(), f"{file}::{name}"


def test_upgrading_names_what_a_deployment_of_the_release_before_must_set() -> None:
    page = (DOCS / "upgrading.md").read_text()
    table = page.partition("what a deployment must set\n")[2].partition("## Limits")[0]
    names = ("PROVIDERS", "TRUSTED_PROXIES", "SIGNING_KEY", "BROKER_URL", "REGISTER_S", "GRACE_S")
    for word in (*(f"SIMHERD_{name}" for name in names), "PUBLIC_URL", "S3_PUBLIC_URL", "API_PORT"):
        assert f"`{word}" in table
    for bound in (f"above {JOIN_S:g}", f"below {limits.HEARTBEAT_S:g},"):
        assert bound in table
    assert f"at least {LEAST_SIGNING_KEY} characters" in table
    assert f"proto-max-bulk-len {REDIS_BULK_BYTES}" in table
    assert f"client-query-buffer-limit {REDIS_QUERY_BYTES}" in table
    # The release that the page is about is the one that the program says it is, and the changelog.
    version = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["version"]
    assert f"to {version}: what a deployment must set" in page
    assert version in (REPOSITORY / "CHANGELOG.md").read_text()


def test_setup_explains_itself() -> None:
    script = REPOSITORY / "scripts" / "setup"
    shown = subprocess.run([script, "--help"], capture_output=True, text=True, check=True)
    assert "scripts/setup [EXTRAS]" in shown.stdout
    refused = subprocess.run([script, "--frob"], capture_output=True, text=True, check=False)
    assert (refused.returncode, len(refused.stderr.splitlines())) == (2, 1)
