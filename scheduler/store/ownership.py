"""Which machines and tasks belong to a machine group, from SQL."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import select

from scheduler.store.models import MachineRow, TaskRow

if TYPE_CHECKING:
    from collections.abc import Collection

    from scheduler.store.engine import Store

#: Ids of one statement: SQLite takes no more than 32,766 parameters.
_AT_A_TIME = 10_000


class SqlOwnership:
    """Reads the task store; see `scheduler.queue.ownership.Ownership`."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def machines(self, group: str, ids: Collection[str]) -> set[str]:
        """Return those of some ids that are machines of the group, terminated ones too."""
        return self._of_group(group, ids, MachineRow)

    def tasks(self, group: str, ids: Collection[str]) -> set[str]:
        """Return those of some ids that are tasks of the group."""
        return self._of_group(group, ids, TaskRow)

    def _of_group(
        self, group: str, ids: Collection[str], table: type[MachineRow] | type[TaskRow]
    ) -> set[str]:
        known: set[str] = set()
        # PostgreSQL stores no NUL, and takes none in a query either.
        names = [id_ for id_ in ids if "\0" not in id_]
        for start in range(0, len(names), _AT_A_TIME):
            some = names[start : start + _AT_A_TIME]
            query = select(table.id).where(table.group_id == group, table.id.in_(some))
            with self._store.read() as session:
                known |= set(session.scalars(query))
        return known
