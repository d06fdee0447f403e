"""The shape of a table of statuses: what each one means, and which may follow it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Mapping

S = TypeVar("S", bound=Enum)


@dataclass(frozen=True)
class StatusMeaning(Generic[S]):
    """What there is to know about one status.

    `after` holds the statuses that may follow; a status with none is terminal.
    """

    label: str
    explanation: str
    advice: str
    after: frozenset[S] = frozenset()

    @property
    def is_terminal(self) -> bool:
        """Whether no status may follow."""
        return not self.after


def statuses_before(table: Mapping[S, StatusMeaning[S]], to: S) -> frozenset[S]:
    """Return the statuses that `to` may follow."""
    return frozenset(status for status, meaning in table.items() if to in meaning.after)
