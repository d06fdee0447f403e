"""Settings of the scheduler's processes, read once from the environment."""

from __future__ import annotations

import os
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

from scheduler.database_url import check_database_url
from scheduler.domain.limits import (
    GRACE_AFTER_START_S,
    GROUP_NAME,
    JOIN_S,
    LEAST_SIGNING_KEY,
    MAIN_SERVER,
)
from scheduler.net.mail import read_server
from scheduler.net.ssrf_guard import networks
from simherd.contract import limits
from simherd.runtime import health
from simherd.runtime.logs import LogFormat

#: Quotas that a new user gets where `SIMHERD_DEFAULT_QUOTAS` does not say otherwise, by name. They
#: are for one person's daily work; an operator raises them for who needs more.
#: Machines: enough for a study in parallel, and a typing mistake does not fill a provider.
#: vCPUs: 16 for each of 16 machines.
#: US$ an hour: a group that is forgotten over a weekend costs some 1,200 US$ at the most.
#: Waiting tasks: ten of the largest batches; more than a queue of hours.
#: Storage, GiB: a share of a disk of 1 TB that leaves room for others.
DEFAULT_QUOTAS = {
    "max_price_hour": 20.0,
    "max_vcpus": 256.0,
    "max_instances": 32.0,
    "max_queued_tasks": 10_000.0,
    "max_storage_gb": 200.0,
}

#: As RFC 7064 and RFC 7065 write them.
_SERVER = r"[^?:/@\s]+(:[0-9]{1,5})?"
_ICE_URL = re.compile(rf"stun:{_SERVER}|turns?:{_SERVER}(\?transport=(udp|tcp))?")

_SERVER_NAME = re.compile(r"[A-Za-z0-9-]{1,32}")


#: Every provider of machines that there is; `SIMHERD_PROVIDERS` names those that are on.
PROVIDERS = ("local", "docker", "ec2", "external")


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _check_providers(names: list[str]) -> None:
    for name in names:
        if name not in PROVIDERS:
            raise ValueError(f"{name!r} is not a provider. There are: {', '.join(PROVIDERS)}")


def _has(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # what it is a part of is not there either
        return False


class Ec2Settings(BaseSettings):
    """How EC2 machines are launched; the variable is `SIMHERD_EC2_` and the name in capitals."""

    model_config = SettingsConfigDict(env_prefix="SIMHERD_EC2_", extra="ignore")

    #: The operator's image, with Docker and Simherd; without it there are no EC2 machines.
    image_id: str | None = None
    region: str = "us-east-1"
    endpoint_url: str | None = Field(default=None, pattern="^https?://")
    #: Where the machines are; it decides the availability zone too.
    subnet_id: str | None = None
    #: Ids with commas between them; without one, the VPC's default group.
    security_group_ids: str = ""
    #: Name of the machines' own IAM instance profile: they need none.
    instance_profile: str | None = None
    #: Tag value that distinguishes this deployment's instances from others in the account.
    deployment: str = Field(default="simherd", min_length=1)
    #: JSON of a group's machine type → EC2's instance type, where they differ.
    machine_types: dict[str, str] = {}

    @property
    def security_groups(self) -> list[str]:
        """The ids of the security groups."""
        return _listed(self.security_group_ids)

    @model_validator(mode="after")
    def _complete(self) -> Ec2Settings:
        if self.image_id and not self.subnet_id:
            raise ValueError("SIMHERD_EC2_IMAGE_ID is set, so SIMHERD_EC2_SUBNET_ID must be too")
        return self


class StoreSettings(BaseSettings):
    """What an operator's command needs that speaks to the task store alone."""

    model_config = SettingsConfigDict(
        env_prefix="SIMHERD_",
        extra="ignore",
        # A folder of files named like the variables, for what must not stand in an environment,
        # where everybody reads it who may inspect a container or a process.
        secrets_dir=os.environ.get("SIMHERD_SECRETS_DIR"),
    )

    #: SQLAlchemy URL of the task store.
    database_url: SecretStr
    #: JSON of quota name → what a new user may have at one time; null: unlimited. What is not named
    #: is as in `DEFAULT_QUOTAS`.
    default_quotas: dict[str, float | None] = {}

    @property
    def quotas_of_new_users(self) -> dict[str, float]:
        """Quota name → value, as users have them stored: one that is unlimited is left out."""
        merged = {**DEFAULT_QUOTAS, **self.default_quotas}
        return {name: value for name, value in merged.items() if value is not None}

    @field_validator("database_url")
    @classmethod
    def _known_database(cls, url: SecretStr) -> SecretStr:
        check_database_url(url.get_secret_value())
        return url

    @field_validator("default_quotas")
    @classmethod
    def _known_quotas(cls, quotas: dict[str, float | None]) -> dict[str, float | None]:
        for name, value in quotas.items():
            if name not in DEFAULT_QUOTAS:
                known = ", ".join(DEFAULT_QUOTAS)
                raise ValueError(f"there is no quota {name!r}. There are: {known}")
            if value is not None and not 0 <= value < float("inf"):
                raise ValueError(f"{name}: {value} is not a number from 0 on, or null")
        return quotas


class RedisServer(BaseModel):
    """One more Redis server for machine groups."""

    model_config = ConfigDict(extra="forbid")

    url: SecretStr
    #: Where machines reach it, when it is elsewhere for them.
    machines_url: SecretStr | None = None
    #: Whether no new groups come to it: it is to be retired.
    closed: bool = False


class Settings(StoreSettings):
    """Every setting of the scheduler; the variable is `SIMHERD_` and the name in capitals."""

    #: URL of the Redis that holds queues, leases and events.
    redis_url: SecretStr
    #: Where machines reach that Redis, when it is elsewhere for them.
    machines_redis_url: SecretStr | None = None
    #: JSON of name → `RedisServer`: more servers, over which new groups are spread.
    redis_servers: dict[str, RedisServer] = {}
    #: Where machines reach the API, when it is elsewhere for them than `public_url`.
    machines_api_url: str | None = None
    #: Seconds in which a machine must have joined after its launch; then it is replaced.
    register_s: float = Field(default=JOIN_S, gt=0, allow_inf_nan=False)
    #: Seconds for which a machine of an elastic group has had nothing to do before it may go, and
    #: for which a group that has changed its size keeps the new one.
    elastic_idle_s: float = Field(default=60.0, gt=0, allow_inf_nan=False)
    #: URL of Celery's broker; another database than `redis_url`.
    broker_url: SecretStr
    #: Where the API can be reached: the start of every URL that it signs.
    public_url: str = "http://127.0.0.1:8000"
    #: Key that signs the URLs that lead to the API's files.
    signing_key: SecretStr
    #: Folder of the built-in storage; unused when `s3_bucket` is set.
    storage_dir: Path | None = None
    s3_bucket: str | None = None
    s3_endpoint_url: str | None = None
    #: Where users reach the storage, when it is elsewhere for them than `s3_endpoint_url`.
    s3_public_url: str | None = Field(default=None, pattern="^https?://")
    s3_region: str = "us-east-1"
    #: The price of storage that users see, US$ for a GB (10^9 bytes) and month.
    storage_price_gb_month: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    #: Folder in which the local and docker providers keep their machines.
    machines_dir: Path = Path("machines")
    #: The operator's own tables, over the ones that are shipped.
    machine_types_file: Path | None = None
    images_file: Path | None = None
    #: Whether simulations may run as plain processes, which read whatever the agent's account does:
    #: where every user is trusted with the machine. `simherd up` sets it where it needs it.
    insecure_process_backend: bool = False
    #: Container backend of local machines: docker or process.
    backend: str = Field(default="docker", pattern="^(docker|process)$")
    #: Image of the machines that are containers; `scripts/machine-image` makes this one.
    docker_image: str = "simherd/machine:local"
    #: Their network. In another than the host's, tasks get no network: see `providers/docker.py`.
    docker_network: str = "host"
    #: Tells this scheduler's containers from those of another on the same engine.
    docker_deployment: str = "default"
    #: Slots of a local machine.
    slots: int = Field(default=1, ge=1, le=256)
    #: JSON of provider → machines of all users together that it may have at one time; one that is
    #: not named is bounded by this host (`local`, `docker`) or `DEFAULT_MAX_MACHINES`.
    max_machines: dict[str, Annotated[int, Field(ge=0)]] = {}
    ec2: Ec2Settings = Field(default_factory=Ec2Settings)
    #: The providers that users may start machines with (`PROVIDERS`), commas between; none by
    #: default. `local` and `docker` start machines on this host.
    providers: str = ""
    #: Names of machine groups that only operators may take, commas between: what people type by
    #: habit must not lead to a stranger's machines.
    reserved_group_names: str = f"{limits.DEFAULT_GROUP},default"
    host: str = "127.0.0.1"
    port: int = limits.API_PORT
    #: Networks (CIDR, commas between) of the reverse proxies whose `X-Forwarded-For` is believed;
    #: without one, a client is who connects.
    trusted_proxies: str = ""
    #: Seconds in which a connection must have sent a request's head; in which some more of a body
    #: must come; and for which a connection without requests is kept. The API's.
    request_head_s: float = Field(default=10.0, gt=0, le=3600)
    request_body_s: float = Field(default=30.0, gt=0, le=3600)
    keep_alive_s: int = Field(default=30, ge=1, le=3600)
    #: Requests per second of one user to one API process, over the time of a burst: 25 s' worth.
    user_requests_per_s: float = Field(default=300.0, gt=0, allow_inf_nan=False)
    #: Wrong keys per minute from one address to one API process; then unknown keys wait.
    failed_keys_per_min: float = Field(default=1200.0, ge=1, allow_inf_nan=False)
    #: Where each process serves `/livez`, `/readyz` and `/metrics`; without a port it does not.
    #: Port 0 is a free one, written to the file `metrics-PROCESS.json` of the working folder.
    metrics_host: str = health.HOST
    metrics_port: int | None = Field(default=None, ge=0, le=65535)
    #: Seconds between two sweeps (leases, lost tasks, group limits).
    sweep_s: float = Field(default=5.0, gt=0, allow_inf_nan=False)
    #: Seconds after a start in which nobody is declared lost.
    grace_s: float = Field(default=GRACE_AFTER_START_S, ge=0, allow_inf_nan=False)
    #: STUN and TURN servers (`stun:`, `turn:` or `turns:` URLs, commas between) by which clients of
    #: the WebRTC bridge find a way to the API; without one, at its own addresses alone.
    ice_servers: str = ""
    #: Credentials for the TURN server.
    ice_username: str | None = None
    ice_credential: SecretStr | None = None
    #: Whether the scheduler starts with settings that let strangers in, see `preflight.py`: `warn`
    #: starts it with warnings in the log, `refuse` does not start it.
    unsafe_settings: str = Field(default="warn", pattern="^(warn|refuse)$")
    log_level: str = "INFO"
    #: How log lines are written: text or json.
    log_format: LogFormat = LogFormat.TEXT
    #: Base URL of an OpenTelemetry collector that takes OTLP over HTTP; without it, no traces.
    otlp_endpoint: str | None = Field(default=None, pattern="^https?://")
    #: Networks of this site (CIDR, commas between) that webhooks and fetches from URLs may reach
    #: besides the public internet.
    outbound_allow: str = ""
    #: The mail server: `smtp://` or `smtps://`, user:password@ where it wants them, host and port.
    #: Without it there are no e-mails.
    smtp_url: SecretStr | None = None
    #: Whom they come from.
    smtp_from: str | None = None
    #: Whether a connection of `smtp://` must be encrypted before anything is said.
    smtp_starttls: bool = True
    #: For `bootstrap` alone: the first user's key, and the machines of the first group; 0: there is
    #: no such group.
    bootstrap_key: SecretStr | None = None
    bootstrap_machines: int = Field(default=1, ge=0, le=1000)

    @property
    def enabled_providers(self) -> tuple[str, ...]:
        """The providers that are on in this deployment, in the order of `PROVIDERS`."""
        return tuple(name for name in PROVIDERS if name in _listed(self.providers))

    @property
    def isolates_simulations(self) -> bool:
        """Whether no simulation of this deployment's machines runs as a plain process here."""
        return self.backend != "process" or "local" not in self.enabled_providers

    @property
    def reserved_names(self) -> frozenset[str]:
        """The names of machine groups that only operators may take."""
        return frozenset(_listed(self.reserved_group_names))

    @property
    def api_url_of_machines(self) -> str:
        """Where machines reach the API."""
        return (self.machines_api_url or self.public_url).rstrip("/")

    @property
    def redis_urls(self) -> dict[str, str]:
        """Every Redis server's name and URL, the main one first."""
        more = {name: one.url.get_secret_value() for name, one in self.redis_servers.items()}
        return {MAIN_SERVER: self.redis_url.get_secret_value(), **more}

    @property
    def open_servers(self) -> tuple[str, ...]:
        """The Redis servers that new groups come to."""
        return (MAIN_SERVER, *(n for n, one in self.redis_servers.items() if not one.closed))

    def machines_redis(self, server: str) -> str:
        """Where machines reach a Redis server. Raises KeyError."""
        if server == MAIN_SERVER:
            return (self.machines_redis_url or self.redis_url).get_secret_value()
        more = self.redis_servers[server]
        return (more.machines_url or more.url).get_secret_value()

    @property
    def metrics_address(self) -> tuple[str, int] | None:
        """Host and port at which each process serves its health and metrics; None: it does not."""
        return None if self.metrics_port is None else (self.metrics_host, self.metrics_port)

    @property
    def ice_urls(self) -> list[str]:
        """The URLs of the STUN and TURN servers."""
        return _listed(self.ice_servers)

    @field_validator("redis_servers")
    @classmethod
    def _server_names(cls, servers: dict[str, RedisServer]) -> dict[str, RedisServer]:
        for name in servers:
            if name == MAIN_SERVER or not _SERVER_NAME.fullmatch(name):
                raise ValueError(
                    f"{name!r} cannot name a server: take letters, digits and -, "
                    f"and not {MAIN_SERVER!r}, which is the one of SIMHERD_REDIS_URL"
                )
        return servers

    @field_validator("signing_key")
    @classmethod
    def _no_weak_key(cls, key: SecretStr, info: ValidationInfo) -> SecretStr:
        # With SQLite it is one machine's, and made by `simherd up`.
        url = info.data.get("database_url")
        deployed = url is not None and not url.get_secret_value().startswith("sqlite")
        least = LEAST_SIGNING_KEY if deployed else 1
        if len(key.get_secret_value()) < least:
            raise ValueError(
                f"it has {len(key.get_secret_value())} characters, and must have {least} or more. "
                "Make one with: openssl rand -hex 32"
            )
        return key

    @field_validator("backend")
    @classmethod
    def _is_isolated(cls, backend: str, info: ValidationInfo) -> str:
        if backend == "process" and not info.data.get("insecure_process_backend"):
            raise ValueError(
                "'process' does not isolate simulations: they read the scheduler's secrets. Use "
                "'docker', or set SIMHERD_INSECURE_PROCESS_BACKEND=true if every user is trusted "
                "with this host"
            )
        return backend

    @field_validator("providers")
    @classmethod
    def _known_providers(cls, text: str, info: ValidationInfo) -> str:
        _check_providers(_listed(text))
        ec2 = info.data.get("ec2")
        if "ec2" in _listed(text) and ec2 is not None and not ec2.image_id:
            raise ValueError("it names ec2, so SIMHERD_EC2_IMAGE_ID must be set")
        return text

    @field_validator("max_machines")
    @classmethod
    def _providers_of_maxima(cls, most: dict[str, int]) -> dict[str, int]:
        _check_providers(list(most))
        return most

    @field_validator("reserved_group_names")
    @classmethod
    def _group_names(cls, text: str) -> str:
        for name in _listed(text):
            if not re.fullmatch(GROUP_NAME, name):
                raise ValueError(
                    f"{name!r} cannot be a machine group's name: it has at most 63 lower-case "
                    "letters, digits and -. Write commas between names"
                )
        return text

    @field_validator("ice_servers")
    @classmethod
    def _ice_servers(cls, text: str) -> str:
        for url in _listed(text):
            if not _ICE_URL.fullmatch(url):
                raise ValueError(f"{url!r} is not stun:HOST[:PORT] or turn:HOST[:PORT]")
        return text

    @field_validator("otlp_endpoint")
    @classmethod
    def _otel_installed(cls, url: str | None) -> str | None:
        if url is not None and not _has("opentelemetry.exporter.otlp.proto.http"):
            raise ValueError("traces need the extra `otel`: pip install 'simherd[scheduler,otel]'")
        return url

    @field_validator("outbound_allow", "trusted_proxies")
    @classmethod
    def _networks(cls, text: str) -> str:
        networks(text)
        return text

    @field_validator("smtp_url")
    @classmethod
    def _mail_server(cls, url: SecretStr | None) -> SecretStr | None:
        if url is not None:
            read_server(url.get_secret_value())
        return url

    @model_validator(mode="after")
    def _mail_complete(self) -> Settings:
        if self.smtp_url is not None and not self.smtp_from:
            raise ValueError("SIMHERD_SMTP_URL is set, so SIMHERD_SMTP_FROM must be too")
        return self
