"""Which machines and tasks belong to a machine group: what its keys may name."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

#: Ids that are remembered, each some 100 bytes.
_REMEMBERED = 200_000


class Ownership(Protocol):
    """What the task store says about a group."""

    def machines(self, group: str, ids: Collection[str]) -> set[str]:
        """Return those of some ids that are machines of the group, terminated ones too."""

    def tasks(self, group: str, ids: Collection[str]) -> set[str]:
        """Return those of some ids that are tasks of the group."""


class RememberedOwnership:
    """Asks the task store once for each id: neither machines nor tasks change their group.

    Ids that do not belong to the group are looked up each time. Safe to use from several threads.
    """

    def __init__(self, store: Ownership) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._known: OrderedDict[tuple[str, str], None] = OrderedDict()

    def machines(self, group: str, ids: Collection[str]) -> set[str]:
        """See `Ownership`."""
        return self._find(group, ids, self._store.machines)

    def tasks(self, group: str, ids: Collection[str]) -> set[str]:
        """See `Ownership`."""
        return self._find(group, ids, self._store.tasks)

    def _find(
        self, group: str, ids: Collection[str], ask: Callable[[str, Collection[str]], set[str]]
    ) -> set[str]:
        with self._lock:
            known = {id_ for id_ in ids if (group, id_) in self._known}
        unknown = set(ids) - known
        if not unknown:
            return known
        confirmed = ask(group, unknown)
        with self._lock:
            self._known.update(dict.fromkeys((group, id_) for id_ in confirmed))
            while len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        return known | confirmed
