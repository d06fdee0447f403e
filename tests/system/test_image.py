"""The image: what is in it, whose it is, and that nothing else is."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.conftest import REPOSITORY
from tests.support.docker import docker

pytestmark = [pytest.mark.docker, pytest.mark.slow]

#: Says which packages are installed, each with its version.
_INSTALLED = """
import json, sys
from importlib.metadata import distributions
print(json.dumps({d.metadata["Name"]: d.version for d in distributions()}))
"""
_OUR_SCRIPTS = ("simherd", "simherd-scheduler", "simherd-executor")
#: What builds an image, and has no place in one that runs.
_TOOLS = ("gcc", "make", "git", "pip", "pip3")
_MOST_BYTES = 450 * 1000**2


def _run(image: str, *argv: str) -> str:
    return docker("run", "--rm", "--network", "none", image, *argv)


def _plain(name: str) -> str:
    """A package's name as indexes compare it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def test_every_package_is_the_one_that_the_constraints_name(machine_image: str) -> None:
    lines = (REPOSITORY / "constraints.txt").read_text().splitlines()
    wanted = {_plain(n): v for n, _, v in (line.partition("==") for line in lines) if v}
    found: dict[str, str] = json.loads(
        _run(machine_image, "/opt/simherd/bin/python", "-c", _INSTALLED)
    )
    found.pop("simherd")
    other = {n: v for n, v in found.items() if wanted.get(_plain(n)) != v}
    assert other == {}
    assert {"celery", "redis", "docker", "psutil", "boto3"} <= found.keys()


def test_it_has_its_programs_and_none_that_build(machine_image: str) -> None:
    script = 'for name; do command -v "$name" || echo none; done'
    places = _run(machine_image, "sh", "-c", script, "sh", *_OUR_SCRIPTS, *_TOOLS).split()
    ours = [f"/usr/local/bin/{name}" for name in _OUR_SCRIPTS]
    assert places == [*ours, *["none"] * len(_TOOLS)]
    for name in _OUR_SCRIPTS:
        assert "usage" in _run(machine_image, name, "--help").lower()


def test_it_says_what_it_is_and_how_it_is_and_is_nobody_mighty(machine_image: str) -> None:
    seen: dict[str, Any] = json.loads(docker("image", "inspect", machine_image))[0]
    labels = seen["Config"]["Labels"]
    version = re.search(r'^version = "(.+)"', (REPOSITORY / "pyproject.toml").read_text(), re.M)
    assert version is not None
    assert labels["org.opencontainers.image.title"] == "Simherd"
    assert labels["org.opencontainers.image.version"] == version[1]
    assert "health" in seen["Config"]["Healthcheck"]["Test"][1]
    assert _run(machine_image, "id", "-u") == "10000"
    assert seen["Size"] < _MOST_BYTES
