"""The one place where the scheduler's parts are chosen and put together."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, TypeVar

from sqlalchemy import select

from scheduler.catalogue.tables import Catalogue, load
from scheduler.domain.limits import MAIN_SERVER
from scheduler.metrics import table
from scheduler.metrics.instruments import flush, inc
from scheduler.objects.file_urls import FileUrls
from scheduler.objects.folder import FolderStore
from scheduler.objects.stored_bytes import StoredBytes
from scheduler.providers.external import ExternalProvider
from scheduler.providers.local import LocalProvider
from scheduler.queue.group_queue import GroupQueue, connect
from scheduler.queue.live_answers import Announcer, Changes, LiveAnswers, connect_async
from scheduler.queue.mailboxes import Mailboxes
from scheduler.queue.memory import UsageClock
from scheduler.queue.ownership import Ownership, RememberedOwnership
from scheduler.queue.servers import Servers
from scheduler.store.engine import Store, open_engine
from scheduler.store.models import GroupRow
from scheduler.store.ownership import SqlOwnership
from scheduler.traces.sender import TraceSender
from simherd.contract.lifecycle import TERMINAL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from redis.asyncio import Redis as AsyncRedis

    from scheduler.config import Settings
    from scheduler.objects.base import ObjectStore
    from scheduler.providers.base import MachineProvider
    from scheduler.store.unit_of_work import StatusOutcome, UnitOfWork
    from simherd.contract.lifecycle import Status

_C = TypeVar("_C")


log = logging.getLogger(__name__)


class _Providers(Mapping[str, "MachineProvider"]):
    """Makes each provider on first use, which is when its libraries are imported."""

    def __init__(self, makers: dict[str, Callable[[], MachineProvider]]) -> None:
        self._makers = makers
        self._made: dict[str, MachineProvider] = {}

    def __getitem__(self, name: str) -> MachineProvider:
        if name not in self._made:
            self._made[name] = self._makers[name]()
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._makers)

    def __len__(self) -> int:
        return len(self._makers)


@dataclass(frozen=True)
class Runtime:
    """Everything a service needs; each part is made on first use."""

    settings: Settings
    #: Has the worker run the job that is named, with its arguments. The sweep makes up for one
    #: that is lost, and so for a process that sends none.
    send_job: Callable[..., None] = lambda *_: None

    @cached_property
    def store(self) -> Store:
        """The task store."""
        engine = open_engine(self.settings.database_url.get_secret_value())
        return Store(engine, self._committed)

    @cached_property
    def _announcer(self) -> Announcer:
        return Announcer(self.settings.redis_url.get_secret_value())

    def _committed(self, unit: UnitOfWork) -> None:
        """Count, announce and send what a unit of work has collected.

        The transaction is committed: an effect that fails is logged, and the others follow.
        """
        effects: list[Callable[[], None]] = [
            lambda: flush(unit.counted),
            lambda: self._report_changes(unit.changes),
        ]
        effects += [partial(self.send_job, name) for name in unit.jobs]
        for effect in effects:
            try:
                effect()
            except Exception:
                log.exception("event=after_commit_failed")

    def _report_changes(self, changes: list[StatusOutcome]) -> None:
        changed: dict[str, Status] = {}
        for task, status, cause, is_refused in changes:
            if is_refused:
                inc(table.REFUSED_CHANGES, status.value)
                continue
            changed[task] = status
            if status in TERMINAL:
                inc(table.TASKS_ENDED, status.value, cause)
        if changed:
            self._announcer.publish(changed)
        ended = [task for task, status in changed.items() if status in TERMINAL]
        for task in ended:
            log.info("event=task_ended task=%s status=%s", task, changed[task])
        if self.traces is not None and changed:
            self.traces.ended(ended)

    @cached_property
    def traces(self) -> TraceSender | None:
        """The sender of traces; None where no endpoint is set."""
        if self.settings.otlp_endpoint is None:
            return None
        # OpenTelemetry is an extra.
        from scheduler.traces.collector import Collector

        return TraceSender(self.store, Collector(self.settings.otlp_endpoint))

    def close(self) -> None:
        """Send the remaining traces, at the end of a process."""
        traces = self.__dict__.get("traces")
        if traces is not None:
            traces.close()

    @cached_property
    def queue(self) -> GroupQueue:
        """Queues, leases and inboxes."""
        return GroupQueue(self.redis_servers(connect), self.owned)

    @cached_property
    def usage_clock(self) -> UsageClock:
        """When this process last measured the memory of groups in Redis."""
        return UsageClock()

    @cached_property
    def owned(self) -> Ownership:
        """Which machines and tasks belong to a group."""
        return RememberedOwnership(SqlOwnership(self.store))

    @cached_property
    def live(self) -> LiveAnswers:
        """Replies about live files, for the API's event loop."""
        return LiveAnswers(self._async_redis, self.queue.reader.dropped)

    @cached_property
    def changes(self) -> Changes:
        """Changes of tasks as they happen, for the API's event loop."""
        return Changes(self._async_redis.main)

    @cached_property
    def mailboxes(self) -> Mailboxes:
        """Messages for clients of the WebRTC bridge, for the API's event loop."""
        return Mailboxes(self._async_redis.main)

    @cached_property
    def _async_redis(self) -> Servers[AsyncRedis]:
        return self.redis_servers(connect_async)

    def redis_servers(self, connect: Callable[[str], _C]) -> Servers[_C]:
        """The Redis servers, with clients as `connect` makes them."""
        return Servers(self.settings.redis_urls, connect, self._server_of)

    def _server_of(self, group: str) -> str:
        query = select(GroupRow.redis_server).where(GroupRow.id == group)
        with self.store.read() as session:
            return session.scalar(query) or MAIN_SERVER

    @cached_property
    def objects(self) -> ObjectStore:
        """Object storage: S3 when a bucket is set, else the folder."""
        settings = self.settings
        if settings.s3_bucket:
            # boto3 takes most of a second to import.
            from scheduler.objects.s3 import S3Store

            return S3Store(
                settings.s3_bucket,
                settings.s3_region,
                settings.s3_endpoint_url,
                settings.s3_public_url,
            )
        if settings.storage_dir is None:
            raise ValueError("set SIMHERD_STORAGE_DIR (a folder) or SIMHERD_S3_BUCKET")
        return FolderStore(
            settings.storage_dir, settings.public_url, settings.signing_key.get_secret_value()
        )

    @cached_property
    def file_urls(self) -> FileUrls:
        """URLs for users; the folder's are the same."""
        settings = self.settings
        return FileUrls(settings.public_url, settings.signing_key.get_secret_value())

    @cached_property
    def stored(self) -> StoredBytes:
        """How much each user has stored."""
        return StoredBytes(self.objects, self.store.clock)

    @cached_property
    def catalogue(self) -> Catalogue:
        """The operator's tables."""
        return load(self.settings.machine_types_file, self.settings.images_file)

    @cached_property
    def providers(self) -> Mapping[str, MachineProvider]:
        """Provider name → provider, also those that are off.

        Machines of a provider that was switched off are still observed, drained and
        terminated. Whether new ones may be started: `scheduler.services.accounts.provider_access`.
        """
        makers: dict[str, Callable[[], MachineProvider]] = {
            "local": self._local,
            "docker": self._docker,
            "ec2": self._ec2,
            "external": ExternalProvider,
        }
        return _Providers(makers)

    def _local(self) -> MachineProvider:
        settings = self.settings
        return LocalProvider(
            settings.machines_dir,
            settings.backend,
            settings.slots,
            serves_metrics=settings.metrics_port is not None,
            is_insecure=settings.insecure_process_backend,
        )

    def _docker(self) -> MachineProvider:
        from scheduler.providers.docker import DockerProvider

        settings = self.settings
        return DockerProvider(
            settings.machines_dir,
            settings.docker_image,
            settings.docker_network,
            settings.docker_deployment,
            metrics=settings.metrics_address,
        )

    def _ec2(self) -> MachineProvider:
        # botocore is slow to import.
        from scheduler.providers.ec2 import Ec2Provider

        return Ec2Provider(self.settings.ec2)

    @property
    def region(self) -> str:
        """The name of the region in which the storage is."""
        return self.settings.s3_region if self.settings.s3_bucket else "local"
