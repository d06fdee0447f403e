"""The prices of machine types: the operator's table, and the prices that were set over it.

A group, its machines and their attempts keep the price of the group's registration. A price that is
set applies to groups that are registered from then on: past costs do not change.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sqlalchemy import delete, select

from scheduler.services.accounts.audit import add_audit_entry
from scheduler.services.errors import Invalid, ResourceNotFound
from scheduler.store.admin_models import MachinePrice

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.orm import Session

    from scheduler.catalogue.tables import Catalogue, MachineType

#: The highest price that is accepted, US$ per hour: more is a typing error.
_MOST = 1_000_000.0


@dataclass(frozen=True)
class PriceState:
    """A machine type with the prices that apply, with the table's, and when a price was set."""

    kind: MachineType
    table: MachineType
    set_at: float | None


def priced_machine_types(session: Session, catalogue: Catalogue) -> Mapping[str, MachineType]:
    """Return name → machine type, with the prices that apply now."""
    return {name: state.kind for name, state in price_states(session, catalogue).items()}


def price_states(session: Session, catalogue: Catalogue) -> Mapping[str, PriceState]:
    """Return name → machine type, with the source of its prices."""
    rows = {row.machine_type: row for row in session.scalars(select(MachinePrice))}
    return {name: _state(kind, rows.get(name)) for name, kind in catalogue.machine_types.items()}


def _state(kind: MachineType, row: MachinePrice | None) -> PriceState:
    if row is None:
        return PriceState(kind, kind, None)
    on_demand = kind.on_demand if row.on_demand is None else row.on_demand
    spot = kind.spot if row.spot is None else row.spot
    return PriceState(replace(kind, on_demand=on_demand, spot=spot), kind, row.set_at)


def set_price(
    session: Session,
    catalogue: Catalogue,
    actor: str,
    name: str,
    *,
    on_demand: float | None = None,
    spot: float | None = None,
) -> PriceState:
    """Set the prices of a machine type, US$ per hour; None leaves one as it is.

    Raises:
        ResourceNotFound: no such machine type.
        Invalid: a price is out of range, or none is given.
    """
    kind = _kind(catalogue, name)
    given = {"on_demand": on_demand, "spot": spot}
    for field, price in given.items():
        if price is not None and not 0 <= price <= _MOST:
            raise Invalid(f"{field}: {price} is not a price from 0 to {_MOST:.0f} US$ per hour.")
    if on_demand is None and spot is None:
        raise Invalid("on_demand, spot: give one of them or both.")
    row = session.get(MachinePrice, name, with_for_update=True)
    if row is None:
        row = MachinePrice(machine_type=name, on_demand=None, spot=None)
        session.add(row)
    row.on_demand = row.on_demand if on_demand is None else on_demand
    row.spot = row.spot if spot is None else spot
    row.set_at = time.time()
    add_audit_entry(session, actor, "price_set", name, on_demand=on_demand, spot=spot)
    return _state(kind, row)


def unset_price(session: Session, catalogue: Catalogue, actor: str, name: str) -> PriceState:
    """Return to the table's prices of a machine type. Raises ResourceNotFound."""
    kind = _kind(catalogue, name)
    session.execute(delete(MachinePrice).where(MachinePrice.machine_type == name))
    add_audit_entry(session, actor, "price_unset", name)
    return PriceState(kind, kind, None)


def _kind(catalogue: Catalogue, name: str) -> MachineType:
    kind = catalogue.machine_types.get(name)
    if kind is None:
        known = ", ".join(sorted(catalogue.machine_types))
        raise ResourceNotFound(f"machine_type: {name!r} is not known. There are: {known}.")
    return kind
