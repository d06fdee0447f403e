"""The protocol of object storage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Verb = Literal["upload", "download"]
#: A stored part: its number, and the ETag that the storage returned for it.
Part = tuple[int, str]


class NoSuchObject(LookupError):
    """There is no object at that path."""


class StorageUnavailable(Exception):
    """The storage does not respond, or reports that it is unavailable."""


class PartsRefused(ValueError):
    """The parts of an upload are not those that were stored; the message is the storage's code."""


class PathTaken(ValueError):
    """An object lies where a folder would have to be, or the other way round."""

    def __init__(self, path: str) -> None:
        super().__init__(
            f"{path!r} cannot be stored: a file of that name is a folder there, or a folder a file"
        )


@dataclass(frozen=True)
class ObjectInfo:
    """One stored object: its path in the user's storage, bytes, epoch seconds."""

    path: str
    size: int
    modified_at: float


@dataclass(frozen=True)
class ObjectEntry:
    """One direct entry of a folder: an object with bytes and epoch seconds, or a folder (None)."""

    name: str
    size: int | None
    modified_at: float | None

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder."""
        return self.size is None


@dataclass(frozen=True)
class Unfinished:
    """A multipart upload that was neither completed nor aborted."""

    user: str
    path: str
    upload: str


class ObjectStore(Protocol):
    """A user's bytes. Paths are normalised (`simherd.contract.objects.normalise`).

    Every call may be repeated. Users never reach each other's objects: `user` is part of the
    key, and is never taken from a request.
    """

    def sign(
        self, user: str, path: str, verb: Verb, valid_s: float, *, public: bool = False
    ) -> str:
        """Return an absolute URL that allows `verb` on this one object for a while.
        `public`: for users, for whom the storage may have another address than for machines."""
        ...

    def stat(self, user: str, path: str) -> ObjectInfo | None:
        """Return the object at `path`; None where there is none."""
        ...

    def read(self, user: str, path: str, start: int, length: int) -> bytes:
        """Return `length` bytes from `start` on. Raises NoSuchObject."""
        ...

    def begin_upload(self, user: str, path: str) -> str:
        """Begin to store an object in parts; return the upload's id.
        Raises PathTaken: a folder lies at `path`, or a file where it has a folder."""
        ...

    def sign_part(self, user: str, path: str, upload: str, number: int, valid_s: float) -> str:
        """Return a URL to which part `number`, from 1, of an upload can be sent for a while."""
        ...

    def store_part(self, user: str, path: str, upload: str, number: int, data: bytes) -> str:
        """Store part `number`, from 1, of an upload; return its ETag.
        Raises NoSuchObject: there is no such upload."""
        ...

    def complete_upload(self, user: str, path: str, upload: str, parts: Sequence[Part]) -> int:
        """Make the object of its parts; return its size, bytes.
        Raises NoSuchObject: there is no such upload, and nothing at `path`."""
        ...

    def abort_upload(self, user: str, path: str, upload: str) -> None:
        """Forget an upload and its parts."""
        ...

    def unfinished(self, before: float) -> Iterator[Unfinished]:
        """Yield every user's uploads in parts that were begun before this moment, epoch seconds."""
        ...

    def list(self, user: str, prefix: str) -> Iterator[ObjectInfo]:
        """Yield every object below the folder `prefix`, in no particular order."""
        ...

    def entries(self, user: str, folder: str) -> Iterator[ObjectEntry]:
        """Yield the direct entries of `folder`, in no particular order, without a walk below."""
        ...

    def copy(self, user: str, source: str, target: str) -> None:
        """Make the object `target` of the object `source`, without moving its bytes through here.

        Raises:
            NoSuchObject: nothing lies at `source`.
            PathTaken: a folder lies at `target`, or a file where it has a folder.
        """
        ...

    def trouble(self) -> str | None:
        """Return why objects cannot be stored now, as a sentence; None when they can.
        May raise the errors of the storage's library."""
        ...

    def free_bytes(self) -> int | None:
        """Return how many bytes can be added; None when that is not limited."""
        ...

    def delete(self, user: str, prefix: str) -> int:
        """Delete the object `prefix` and all below it; return how many there were."""
        ...
