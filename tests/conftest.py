"""Fixtures that start the real thing; what cannot be had skips here and fails in CI."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest

from scheduler.store.engine import Store, migrate, open_engine
from tests.support import servers
from tests.support.docker import has_image
from tests.support.ec2 import ec2_server
from tests.support.env import Env

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.ec2 import Cloud


REPOSITORY = Path(__file__).parents[1]
#: The image that Docker tests run in; `scripts/test` makes it.
BASE_IMAGE = "simherd/debian:bookworm"
#: The image of a machine, with the executor; `scripts/test` makes it as well.
MACHINE_IMAGE = os.environ.get("SIMHERD_TEST_MACHINE_IMAGE", "simherd/machine:local")


#: Files outside tests/system that take many seconds.
_LASTING = frozenset(
    {
        *("test_alerts.py", "test_backups.py", "test_event_requests.py", "test_machines.py"),
        *("test_migrations.py", "test_objects.py", "test_scale_out.py", "test_traces.py"),
        *("test_machine_access.py", "test_transfers.py", "test_edge.py", "test_edge_limits.py"),
        *("test_reverse_proxy.py", "test_stolen_machine.py", "test_redis_full.py"),
        *("test_storage_room.py", "test_quarantine.py", "test_observers.py", "test_lost_keys.py"),
        *("test_start_question.py", "test_redis_settings.py"),
        *("test_large_archives.py", "test_deployed_settings.py", "test_provider_access.py"),
    }
)


# How long an example takes says nothing on a machine that does other things too.
hypothesis.settings.register_profile("suite", deadline=None)
hypothesis.settings.load_profile("suite")


def pytest_configure() -> None:
    """Let a run that is told to stop take down its servers, as one that is interrupted does."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # A run in the background of a script ignores it, and so would every command that is tested.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The fast tests leave out whole systems, which take seconds to start, and what lasts."""
    for item in items:
        system = item.path.is_relative_to(REPOSITORY / "tests" / "system")
        if system or item.path.name in _LASTING:
            item.add_marker(pytest.mark.slow)


def missing(what: str) -> None:
    """Skip, or fail where everything has to be there."""
    if os.environ.get("SIMHERD_REQUIRE_ALL") == "1":
        pytest.fail(f"{what}, and SIMHERD_REQUIRE_ALL is set")
    pytest.skip(what)


@pytest.fixture(scope="session")
def docker_engine() -> None:
    """A Docker engine with the base image."""
    if shutil.which("docker") is None:
        missing("there is no Docker on this machine (apt-get install docker.io)")
    if not has_image(BASE_IMAGE):
        missing(f"no Docker engine with the image {BASE_IMAGE} responds")


@pytest.fixture(scope="session")
def machine_image(docker_engine: None) -> str:
    """The image of a machine."""
    if not has_image(MACHINE_IMAGE):
        missing(f"there is no image {MACHINE_IMAGE} (scripts/machine-image)")
    return MACHINE_IMAGE


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """A Redis of the tests' own."""
    with servers.redis_server() as url:
        yield url


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """A PostgreSQL of the tests' own; the URL without a database."""
    programs = servers.postgres_programs()
    if programs is None:
        missing("there is no PostgreSQL on this machine (apt-get install postgresql)")
    else:
        with servers.postgres_server(programs) as url:
            yield url


@pytest.fixture(scope="session")
def s3() -> Iterator[dict[str, str]]:
    """The environment that leads to an S3 server with an empty bucket."""
    with servers.s3_server() as environment:
        yield environment


@pytest.fixture(scope="session")
def ec2() -> Iterator[Cloud]:
    """An EC2 with what machines need."""
    with ec2_server() as cloud:
        yield cloud


@pytest.fixture(scope="session")
def splishsplash_image(docker_engine: None) -> None:
    """The image of SPlisHSPlasH, which the shipped table of image names points to."""
    subprocess.run([REPOSITORY / "deploy/images/splishsplash/build.sh"], check=True)


@pytest.fixture(scope="session")
def openmpi_image(docker_engine: None) -> None:
    """The image of OpenMPI, with a small program."""
    subprocess.run([REPOSITORY / "deploy/images/openmpi/build.sh"], check=True)


@pytest.fixture(autouse=True)
def _docker_marker(request: pytest.FixtureRequest) -> None:
    if request.node.get_closest_marker("docker") is not None:
        request.getfixturevalue("docker_engine")


@pytest.fixture(scope="session")
def env(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Env]:
    """One Simherd for all tests that do not break it: processes, two machines."""
    made = Env(
        tmp_path_factory.mktemp("env"),
        "--backend",
        "process",
        "--machines",
        "2",
        SIMHERD_SWEEP_S="1",
        SIMHERD_PROVIDERS="local,docker,external",
        # The tests' own servers stand for the public internet.
        SIMHERD_OUTBOUND_ALLOW="127.0.0.1/32",
        SIMHERD_METRICS_PORT="0",
    )
    made.start()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def docker(docker_engine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Env]:
    """A Simherd of the module's own, with containers."""
    made = Env(tmp_path_factory.mktemp("docker"), "--backend", "docker", SIMHERD_SWEEP_S="1")
    made.start()
    yield made
    made.stop()


@pytest.fixture(
    scope="module", params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)]
)
def database_url(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """An empty database."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path_factory.mktemp('db') / 'test.db'}"
    else:
        with servers.new_database(request.getfixturevalue("postgres_server")) as url:
            yield url


@pytest.fixture(scope="module")
def store(database_url: str) -> Iterator[Store]:
    """A store with its tables."""
    migrate(database_url)
    made = Store(open_engine(database_url))
    yield made
    made.engine.dispose()
