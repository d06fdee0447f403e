"""What the server describes by fields, among them an id and a name."""

from __future__ import annotations

from typing import Any


class Described:
    """The fields of the HTTP contract, as they were when last read."""

    _fields: dict[str, Any]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"

    @property
    def id(self) -> str:
        """The id."""
        return str(self._fields["id"])

    @property
    def name(self) -> str:
        """The name."""
        return str(self._fields["name"])

    @property
    def info(self) -> dict[str, Any]:
        """What was last learned: the fields of the HTTP contract."""
        return dict(self._fields)
