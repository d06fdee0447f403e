"""The resources of this machine: disks, images, facts, and room for attempts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from executor.machine.capacity import Capacity
from executor.machine.facts import MachineInfo
from executor.machine.image_cache import ImageCache
from executor.machine.volumes import Volume, choose_disk

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from executor.config import Config
    from executor.containers.base import ContainerBackend


class Occupant(Protocol):
    """An attempt that has files on this machine."""

    @property
    def volume(self) -> Volume: ...
    @property
    def image(self) -> str: ...


class MachineResources:
    """The resources of this machine, and what of them the present attempts take."""

    def __init__(
        self, config: Config, backend: ContainerBackend, here: Callable[[], Collection[Occupant]]
    ) -> None:
        """`here`: returns the attempts that have a volume on this machine."""
        self._config = config
        self._here = here
        self._disk = choose_disk(config.state_dir, config.disk_bytes)
        self.images = ImageCache(config.state_dir / "images.json", backend.remove_image)
        self._capacity = Capacity(
            config.state_dir,
            backend.data_root(),
            config.disk_reserve_bytes,
            self.images,
            lambda: frozenset(attempt.image for attempt in here()),
        )
        self._facts = MachineInfo(config, backend, self._disk)
        #: What a further attempt lacked at the last check; None when there was room.
        self.lacks: str | None = None

    def waits_for(self, *, has_place: bool = False) -> str | None:
        """Return why no further attempt may come here now; None when one may. `has_place`: the next
        attempt is here already, prefetched."""
        self.lacks = self._capacity.reason_to_wait(self._booked(), has_place=has_place)
        return self.lacks

    def disk(self) -> tuple[int, int]:
        """Return the bytes free on the work disk, and the bytes of it that no attempt gets."""
        return self._capacity.disk()

    def _booked(self) -> int:
        """Bytes of the work disk that the attempts here may still take."""
        volumes = [attempt.volume for attempt in self._here()]
        return sum(max(0, v.limit - v.used()) for v in volumes if v.limit)

    def facts(self, *, draining: bool) -> dict[str, Any]:
        """Return the facts to publish."""
        return self._facts.gather(draining=draining, waits_for=self.lacks)

    def volume(self, key: str, *, keep: bool) -> Volume:
        """Return the volume of an attempt; without `keep` it is empty. Raises DiskError."""
        wanted = self._config.disk_bytes // self._config.slots
        limit = self._capacity.limit(wanted, self._booked()) if wanted else 0
        volume = self._disk.make(file_name(key), limit)
        if not keep:
            volume.close()
            volume = self._disk.make(file_name(key), limit)
        return volume

    def close(self) -> None:
        """Unmount what no attempt needs."""
        self._disk.close()

    def clean_up(self, keep: Collection[str]) -> None:
        """Remove the volumes of all attempts but these."""
        self._disk.clean_up(frozenset(map(file_name, keep)))


def file_name(key: str) -> str:
    """Return the name of an attempt's files."""
    return key.replace(":", "-")
