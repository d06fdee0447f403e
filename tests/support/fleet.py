"""A fleet as `make fleet` brings it up, in a separate folder and under a separate name."""

from __future__ import annotations

import json
import os
import secrets
import ssl
import subprocess
from typing import TYPE_CHECKING, Any

import httpx

from simherd.local.stack import free_port
from tests.support.docker import docker

if TYPE_CHECKING:
    from pathlib import Path

Done = subprocess.CompletedProcess[str]


class Fleet:
    """Its scripts, and what they have made."""

    def __init__(self, repository: Path, folder: Path, image: str) -> None:
        self.folder = folder
        self.project = f"test-fleet-{secrets.token_hex(3)}"
        self.s3_url = f"https://127.0.0.1:{free_port()}"
        self._repository = repository
        self._environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("SIMHERD_")},
            "HOME": str(folder / "home"),
            # What was made once is not made again.
            "XDG_CACHE_HOME": os.environ.get("XDG_CACHE_HOME", os.path.expanduser("~/.cache")),
            "NO_COLOR": "1",
            "FLEET_DIR": str(folder),
            "OUTPUT_DIR": str(folder / "output"),
            "COMPOSE_PROJECT_NAME": self.project,
            "SIMHERD_IMAGE": image,
            "REDIS_IMAGE": "simherd/redis:local",
            "POSTGRES_IMAGE": "simherd/postgres:local",
            "S3_IMAGE": "simherd/s3:local",
            "API_PORT": str(free_port()),
            "API_PROCESSES": "2",
            "RECORDERS": "2",
            "WORKERS": "2",
            "S3_PORT": self.s3_url.rpartition(":")[2],
            "FLEET_MACHINES": "1",
            "MACHINES_DIR": str(folder / "machines"),
        }

    def script(self, name: str, *options: str) -> Done:
        """Run one of the repository's scripts as its user would."""
        return self._run([str(self._repository / "scripts" / name), *options], self._environment)

    def cli(self, *arguments: str, key: str | None = None) -> Done:
        """Run `simherd` as the fleet's first user, or as the one whose key this is."""
        program = str(self._repository / ".venv" / "bin" / "simherd")
        told = {**self._connection(), **({} if key is None else {"SIMHERD_API_KEY": key})}
        return self._run([program, *arguments], {**self._environment, **told})

    def api(self, key: str) -> httpx.Client:
        """The API as the user of this key speaks to it."""
        url, headers = self._connection()["SIMHERD_API_URL"], {"X-API-Key": key}
        return httpx.Client(
            base_url=url, headers=headers, verify=self._trusted(), trust_env=False, timeout=60
        )

    def _trusted(self) -> ssl.SSLContext:
        """What trusts the fleet's own certificate."""
        return ssl.create_default_context(cafile=self._connection()["SSL_CERT_FILE"])

    def get(self, path: str, /, **query: str) -> Any:
        """What the API returns to the first user."""
        connection = self._connection()
        url, headers = connection["SIMHERD_API_URL"], {"X-API-Key": connection["SIMHERD_API_KEY"]}
        answer = self.fetch(url + path, params=query, headers=headers)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def fetch(self, url: str, **more: Any) -> httpx.Response:
        """What is at a URL of the fleet, whose certificate is trusted."""
        return httpx.get(url, verify=self._trusted(), trust_env=False, timeout=60, **more)

    @property
    def url(self) -> str:
        """Where users reach the API."""
        return self._connection()["SIMHERD_API_URL"]

    @property
    def key(self) -> str:
        """The first user's key."""
        return self._connection()["SIMHERD_API_KEY"]

    def _connection(self) -> dict[str, str]:
        lines = (self.folder / "secrets" / "connection.env").read_text().splitlines()
        return dict(line.split("=", 1) for line in lines)

    def _run(self, argv: list[str], environment: dict[str, str]) -> Done:
        return subprocess.run(
            argv,
            cwd=self.folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=500,
            check=False,
        )

    def containers(self, part: str) -> list[str]:
        """The names of a part's containers."""
        wanted = f"label=com.docker.compose.service={part}"
        shown = docker(
            "ps", "-a", "--filter", self._label, "--filter", wanted, "--format", "{{.Names}}"
        )
        return sorted(shown.split())

    def container(self, part: str) -> str:
        """The name of a part's container, the first one where there are several."""
        return self.containers(part)[0]

    def machine(self) -> str:
        """The name of its only machine's container."""
        return docker("ps", "--filter", self._machines, "--format", "{{.Names}}")

    def inspect(self, container: str) -> dict[str, Any]:
        """All that the engine returns about a container."""
        found: dict[str, Any] = json.loads(docker("inspect", container))[0]
        return found

    def visible_text(self, container: str) -> str:
        """All that is to be seen of a container from outside: settings, log, command lines."""
        argv = ["docker", "logs", container]
        log = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=True)
        running = docker("ps", "-q", "--filter", f"name=^{container}$")
        lines = docker("top", container) if running else ""
        return f"{json.dumps(self.inspect(container))}\n{log.stdout.decode()}\n{lines}"

    def names(self) -> list[str]:
        """The names of all of its containers."""
        labels = (self._label, self._machines)
        return [
            n
            for f in labels
            for n in docker("ps", "-a", "--filter", f, "--format", "{{.Names}}").split()
        ]

    def remaining(self) -> list[str]:
        """Everything of it that the engine still has."""
        networks = docker("network", "ls", "--filter", f"name={self.project}", "-q").split()
        volumes = docker("volume", "ls", "--filter", f"name={self.project}", "-q").split()
        return [*self.names(), *networks, *volumes]

    def secrets(self) -> list[str]:
        """The texts that nobody must see who may look at containers and processes."""
        place = self.folder / "secrets"
        whole = ("postgres_password", "simherd_signing_key", "simherd_bootstrap_key")
        s3 = json.loads((place / "s3_keys").read_text())["identities"][0]["credentials"][0]
        urls = [(place / f"simherd_{n}_url").read_text() for n in ("redis", "broker", "database")]
        passwords = [url.partition("@")[0].rpartition(":")[2] for url in urls]
        return [*((place / n).read_text() for n in whole), s3["secretKey"], *passwords]

    @property
    def _label(self) -> str:
        return f"label=com.docker.compose.project={self.project}"

    @property
    def _machines(self) -> str:
        return f"label=simherd.deployment={self.project}"
