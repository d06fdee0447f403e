"""`health`: whether the process of this container lives, for its health check."""

from __future__ import annotations

import json
import os
import sys
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from simherd.contract import limits
from simherd.runtime.health import HOST, LIVE, HealthTarget, executor_file

#: Seconds that a process has for its response.
_ANSWER_S = 5.0
#: Addresses that stand for all of a machine's, and by which it reaches itself.
_ITSELF = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}


def of_scheduler() -> int:
    """Exit code of `simherd-scheduler health`: 0 when the process lives; 1, and a sentence, else.
    Without a port for metrics it is the API's own that is asked."""
    port = os.environ.get("SIMHERD_METRICS_PORT", "")
    if not port:
        host = os.environ.get("SIMHERD_HOST", HOST)
        return _exit_code(_trouble(host, os.environ.get("SIMHERD_PORT", str(limits.API_PORT))))
    return _exit_code(_trouble(os.environ.get("SIMHERD_METRICS_HOST", HOST), port))


def of_executor() -> int:
    """Exit code of `simherd-executor health`: 0 when the agent lives; 1, and a sentence, else."""
    port = os.environ.get("SIMHERD_METRICS_PORT", "")
    if not port:
        return _exit_code("SIMHERD_METRICS_PORT is not set: the agent serves no health page.")
    host = os.environ.get("SIMHERD_METRICS_HOST", HOST)
    if port == "0":
        file = executor_file(Path(os.environ.get("SIMHERD_STATE_DIR", ".")), os.environ)
        try:
            host, found = HealthTarget(file, "executor").read()
        except (OSError, ValueError):
            return _exit_code(f"No agent has written to {file} where it serves its health.")
        port = str(found)
    return _exit_code(_trouble(host, port))


def _exit_code(trouble: str | None) -> int:
    if trouble is not None:
        print(trouble, file=sys.stderr)
    return 0 if trouble is None else 1


def _trouble(host: str, port: str) -> str | None:
    if not port.isdecimal() or not 0 < int(port) < 65536:
        return f"SIMHERD_METRICS_PORT is {port!r}: a health check needs a port from 1 to 65535."
    return not_live(host, int(port))


def not_live(host: str, port: int) -> str | None:
    """Why the process that serves its health at this address is not live, as a sentence. None: it
    is. An unhealthy process and a missing one get different sentences."""
    host = _ITSELF.get(host, host)
    connection = HTTPConnection(host, port, timeout=_ANSWER_S)
    try:
        connection.request("GET", LIVE)
        response = connection.getresponse()
        body = response.read()
    except (OSError, HTTPException) as error:
        said = str(error) or type(error).__name__
        return f"Nothing responds at {host} port {port}: {said}."
    finally:
        connection.close()
    return None if response.status == 200 else _detail(body, response.status)


def _detail(body: bytes, status: int) -> str:
    try:
        return str(json.loads(body)["detail"])
    except (ValueError, KeyError, TypeError):
        return f"It responded to {LIVE} with status {status}."
