"""Choosing among the catalogue's machine types."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from scheduler.catalogue.tables import MachineType

#: The least and the most, both allowed.
Range = tuple[float, float]


@dataclass(frozen=True)
class OfferFilter:
    """What a machine type has to be; None: any. A type's name is FAMILY-CONFIG-VCPUS."""

    families: frozenset[str] | None = None
    configs: frozenset[str] | None = None
    #: vCPUs, GiB of memory, US$ per machine and hour, GPUs.
    vcpus: Range | None = None
    memory_gb: Range | None = None
    price: Range | None = None
    gpus: Range | None = None
    gpu_names: frozenset[str] | None = None
    zones: frozenset[str] | None = None
    spot: bool | None = None


@dataclass(frozen=True)
class MachineOffer:
    """A machine type at one of its two prices, US$ per machine and hour."""

    kind: MachineType
    spot: bool

    @property
    def price(self) -> float:
        """What it costs so."""
        return self.kind.spot if self.spot else self.kind.on_demand


def offers(kinds: Iterable[MachineType], wanted: OfferFilter) -> Iterator[MachineOffer]:
    """Each machine type that is wanted, spot before on demand."""
    for kind in kinds:
        if not _is_wanted(kind, wanted):
            continue
        for spot in (True, False):
            offer = MachineOffer(kind, spot)
            if wanted.spot in (None, spot) and _within(offer.price, wanted.price):
                yield offer


def _is_wanted(kind: MachineType, wanted: OfferFilter) -> bool:
    family, _, rest = kind.name.partition("-")
    return (
        _among(family, wanted.families)
        and _among(rest.partition("-")[0], wanted.configs)
        and _among(kind.zone, wanted.zones)
        and _among(kind.gpu_name, wanted.gpu_names)
        and _within(kind.vcpus, wanted.vcpus)
        and _within(kind.memory_gb, wanted.memory_gb)
        and _within(kind.gpus, wanted.gpus)
    )


def _among(value: str | None, names: frozenset[str] | None) -> bool:
    return names is None or (value is not None and value.lower() in {n.lower() for n in names})


def _within(value: float, span: Range | None) -> bool:
    return span is None or span[0] <= value <= span[1]
