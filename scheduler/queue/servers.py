"""Which Redis server holds which machine group."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_C = TypeVar("_C")


class UnknownServer(LookupError):
    """A machine group is on a Redis server that the settings do not name."""


class Servers(Generic[_C]):
    """The Redis servers by name, with clients of one kind.
    A group stays on the server that it was made on: its executors know no other."""

    def __init__(
        self, urls: Mapping[str, str], connect: Callable[[str], _C], server_of: Callable[[str], str]
    ) -> None:
        """`urls`: name → URL; the first is the main one, for all that belongs to no group.

        `connect`: makes a client, when it is first needed. `server_of`: group → its server's name.
        """
        self._urls = dict(urls)
        self._connect = connect
        self._server_of = server_of
        self._clients: dict[str, _C] = {}
        self._places: dict[str, str] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """The servers, the main one first."""
        return tuple(self._urls)

    @property
    def main(self) -> _C:
        """Return the client of the server for all that belongs to no group."""
        return self.named(self.names[0])

    def named(self, name: str) -> _C:
        """Return the client of one server. Raises UnknownServer."""
        if name not in self._clients:
            if name not in self._urls:
                raise UnknownServer(
                    f"There is no Redis server {name!r} in SIMHERD_REDIS_SERVERS, and machine "
                    "groups are on it. Name it there until they are terminated."
                )
            self._clients[name] = self._connect(self._urls[name])
        return self._clients[name]

    def of(self, group: str) -> _C:
        """Return the client of a group's server. Raises UnknownServer."""
        if group not in self._places:
            self._places[group] = self._server_of(group)
        return self.named(self._places[group])

    def all(self) -> Iterator[tuple[str, _C]]:
        """Yield every server's name and client, the main one first."""
        for name in self._urls:
            yield name, self.named(name)
