"""What there is to be had: simulator images, machine types, prices. No key is needed for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import Depends, Query

from scheduler.api.bounded import Amount, Name
from scheduler.api.deps import RuntimeDep, UserDep
from scheduler.api.strict import StrictRouter
from scheduler.catalogue.search import MachineOffer, OfferFilter, Range, offers
from scheduler.services.accounts.provider_access import providers_of, wire_providers
from scheduler.services.billing.prices import priced_machine_types as machine_types_now
from scheduler.services.errors import Invalid, ResourceNotFound
from scheduler.services.transaction import read

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Values of a filter that is given more than once.
MAX_FILTER_VALUES = 100

router = StrictRouter(tags=["catalogue"])

#: The machine provider that is meant where none is named.
_PROVIDER = "GCP"
#: US$ per hour that spot machines are said to cost where they cost nothing: the published client
#: divides by it.
_ALMOST_NOTHING = 1e-9
#: Hardware threads of a core, where a group does not say.
_THREADS_PER_CORE = 2

Provider = Literal["GCP", "LOCAL", "LYCEUM"]
Texts = Annotated[list[Name] | None, Query(max_length=MAX_FILTER_VALUES)]
Pair = Annotated[list[Amount] | None, Query(max_length=MAX_FILTER_VALUES)]


@router.get("/simulators/available-images")
def available_images(rt: RuntimeDep) -> dict[str, dict[str, list[str]]]:
    """The simulator images that the catalogue offers."""
    return {
        "production": dict(rt.catalogue.production),
        "development": dict(rt.catalogue.development),
    }


@router.get("/compute/price")
def price(rt: RuntimeDep, user: UserDep, machine_type: str) -> dict[str, float]:
    """What a machine costs, US$ per hour; the same in all zones."""
    kinds = read(rt, machine_types_now, rt.catalogue)
    kind = kinds.get(machine_type)
    if kind is None:
        known = ", ".join(sorted(kinds))
        raise ResourceNotFound(f"machine_type: {machine_type!r} is not known. There are: {known}.")
    spot = kind.spot or _ALMOST_NOTHING
    return {"preemptible_price": spot, "on_demand_price": kind.on_demand}


def _wanted(
    machine_families: Texts = None,
    machine_configs: Texts = None,
    vcpus_range: Pair = None,
    memory_range: Pair = None,
    price_range: Pair = None,
    spot: bool | None = None,
    gpus_range: Pair = None,
    gpu_names: Texts = None,
    zones: Texts = None,
) -> OfferFilter:
    return OfferFilter(
        families=_names(machine_families),
        configs=_names(machine_configs),
        vcpus=_range("vcpus_range", vcpus_range),
        memory_gb=_range("memory_range", memory_range),
        price=_range("price_range", price_range),
        gpus=_range("gpus_range", gpus_range),
        gpu_names=_names(gpu_names),
        zones=_names(zones),
        spot=spot,
    )


def _names(given: list[str] | None) -> frozenset[str] | None:
    return frozenset(given) if given else None


def _range(name: str, given: list[float] | None) -> Range | None:
    if not given:
        return None
    if len(given) != 2 or not given[0] <= given[1]:
        raise Invalid(f"{name}: {given} must be two numbers, the least and the most.")
    return given[0], given[1]


WantedDep = Annotated[OfferFilter, Depends(_wanted)]


@router.get("/pricing/machine-types")
def machine_types(
    rt: RuntimeDep, conditions: WantedDep, provider_id: Provider | None = None
) -> list[dict[str, Any]]:
    """Machine types that match every filter, each with its spot price and its other one.

    Ranges are two values, the least and the most, both allowed: vCPUs, GiB of memory, US$ per
    hour, GPUs. Other filters may be given more than once, and name what is wanted.
    """
    return _offers_of(rt, conditions, provider_id, rt.settings.enabled_providers)


def _offers_of(
    rt: RuntimeDep, conditions: OfferFilter, provider_id: str | None, on: Sequence[str]
) -> list[dict[str, Any]]:
    """What can be had with the providers that are `on`; of a provider id without any: nothing."""
    if not on and provider_id is None:
        return []
    table = wire_providers(rt, on)
    provider = provider_id or (_PROVIDER if _PROVIDER in table else next(iter(table), _PROVIDER))
    # Without a name on the wire, what is on is named in a request by itself.
    if provider not in table and (table or provider_id is not None):
        if provider not in rt.catalogue.providers:
            return []
        available = f"There are: {', '.join(sorted(table))}." if table else "There are none."
        raise Invalid(f"provider_id: {provider!r} is not available here. {available}")
    kinds = read(rt, machine_types_now, rt.catalogue)
    return [_json(o, provider) for o in offers(kinds.values(), conditions)]


@router.get("/compute/machine_types")
def own_machine_types(
    rt: RuntimeDep, user: UserDep, conditions: WantedDep, provider_id: Provider | None = None
) -> list[dict[str, Any]]:
    """The same with the providers that are on for the user."""
    return _offers_of(rt, conditions, provider_id, providers_of(rt, user))


def _json(offer: MachineOffer, provider: str) -> dict[str, Any]:
    kind = offer.kind
    return {
        "machine_type": kind.name,
        "num_vcpus": kind.vcpus,
        "ram_gb": kind.memory_gb,
        "price": offer.price,
        "provider_id": provider,
        "threads_per_core": _THREADS_PER_CORE,
        "spot": offer.spot,
        "region": kind.region,
        "zone": kind.zone,
        "num_gpus": kind.gpus,
        "gpu_id": None,
        "gpu_name": kind.gpu_name,
    }
