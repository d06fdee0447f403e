"""Tables of statuses: status → those that may follow it; none follows a terminal one."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Mapping

S = TypeVar("S", bound=Enum)


def statuses_before(table: Mapping[S, frozenset[S]], to: S) -> frozenset[S]:
    """Return the statuses that `to` may follow."""
    return frozenset(status for status, after in table.items() if to in after)
