"""The client of the Docker engine, and its errors turned into ours."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

import docker
import requests
from docker.errors import APIError, DockerException

from executor.containers.base import ContainerError, EngineUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from docker import APIClient

#: What a call raises while the engine is unavailable, or when it refuses.
ENGINE_ERRORS = (DockerException, requests.RequestException)
#: Statuses for a container that is gone, going, or no longer running.
GONE = frozenset({404, 409})


def client(base_url: str | None, timeout_s: int) -> APIClient:
    """Return a client of the engine at `base_url`; by default DOCKER_HOST or the local socket."""
    address = base_url or os.environ.get("DOCKER_HOST")
    return docker.APIClient(base_url=address, version="auto", timeout=timeout_s)


def remove(api: APIClient, container: str) -> None:
    """Remove a container, running or not, if it exists."""
    try:
        api.remove_container(container, force=True, v=True)
    except APIError as error:
        if error.status_code not in GONE:
            raise


def text(error: APIError) -> str:
    """Return the engine's explanation."""
    return str(error.explanation or error)


@contextlib.contextmanager
def engine(action: str) -> Iterator[None]:
    """Turn the SDK's errors into ours; `action` completes `Could not …`."""
    try:
        yield
    except APIError as error:
        kind = ContainerError if error.is_client_error() else EngineUnavailable
        raise kind(f"Could not {action}: {text(error)}") from error
    except ENGINE_ERRORS as error:
        raise EngineUnavailable(f"Could not {action}: {error}") from error
