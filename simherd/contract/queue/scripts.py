"""The Lua scripts beside this file, and their replies as types. Imports no Redis client."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Name = Literal[
    "enqueue",
    "claim",
    "gather",
    "renew",
    "withdraw",
    "revoke",
    "stage",
    "send",
    "note",
    "acknowledge",
    "drop",
    "measure_keys",
    "read_fields",
    "read_hash",
    "read_scores",
    "read_stream",
]
#: The scripts that agents call, and the folder of those of release 0.1, which 0.3 drops.
_OF_AGENTS: tuple[Name, ...] = ("claim", "gather", "renew", "stage")
_OLD = "release_0_1"
#: Files that are put before a script, because scripts of Redis cannot call one another.
_BEFORE = {
    "claim": ("left", "take"),
    "gather": ("left", "take"),
    "withdraw": ("left",),
    "send": ("unlimited",),
    "note": ("unlimited",),
    "acknowledge": ("unlimited",),
}


@cache
def source(name: Name) -> str:
    """Return the text of the script `name`."""
    return "".join(map(_read, (*_BEFORE.get(name, ()), name)))


def sources_of_agents() -> list[str]:
    """Return the texts of the scripts that agents call, also those of the release before. Agents
    cannot load scripts: they name one by the digest of its text in their release."""
    old = (f"{_OLD}/left", f"{_OLD}/take")
    return [
        *(source(name) for name in _OF_AGENTS),
        *("".join(map(_read, (*old, f"{_OLD}/{name}"))) for name in ("claim", "gather")),
        *(_read(f"{_OLD}/{name}") for name in ("renew", "stage")),
    ]


def _read(name: str) -> str:
    return files(__package__).joinpath(f"{name}.lua").read_text(encoding="utf-8")


def text(value: Any) -> str:
    """Return a word of a reply, decoded or not by the client library."""
    return value.decode() if isinstance(value, bytes) else str(value)


@dataclass(frozen=True)
class Claimed:
    """A claimed attempt and its specification (JSON)."""

    attempt: str
    spec: str


def claim_reply(reply: Sequence[Any]) -> Claimed | None:
    """Read the reply of `claim`; None when nothing waits."""
    if text(reply[0]) == "empty":
        return None
    return Claimed(text(reply[1]), text(reply[2]))


@dataclass(frozen=True)
class Gang:
    """An attempt of an MPI group and its machines, the leader first."""

    attempt: str
    members: tuple[str, ...]


@dataclass(frozen=True)
class Gathered:
    """The reply of `gather`. With `claimed` the caller leads `gang`, with `member` it belongs to
    it, and `gang` names only the leader; otherwise the caller asks again."""

    word: Literal["claimed", "member", "empty", "gather", "follow"]
    gang: Gang | None = None
    spec: str = ""


def gather_reply(reply: Sequence[Any]) -> Gathered:
    """Read the reply of `gather`."""
    words = [text(word) for word in reply]
    if words[0] == "claimed":
        return Gathered("claimed", Gang(words[1], tuple(words[3].split(","))), words[2])
    if words[0] == "member":
        return Gathered("member", Gang(words[1], (words[2],)))
    if words[0] == "empty":
        return Gathered("empty")
    return Gathered("gather" if words[0] == "gather" else "follow")


def stage_reply(reply: Sequence[Any]) -> Literal["kept"] | Claimed | None:
    """Read the reply of `stage`; None when there is nothing to prefetch."""
    word = text(reply[0])
    if word == "kept":
        return "kept"
    return Claimed(text(reply[1]), text(reply[2])) if word == "stage" else None


@dataclass(frozen=True)
class Renewal:
    """The reply to a heartbeat about one attempt."""

    attempt: str
    state: Literal["held", "lost", "recorded"]
    recorded: int


def renew_reply(reply: Iterable[Sequence[Any]]) -> list[Renewal]:
    """Read the reply of `renew`, one entry an attempt."""
    states: dict[str, Literal["held", "lost", "recorded"]] = {
        "held": "held",
        "lost": "lost",
        "recorded": "recorded",
    }
    return [Renewal(text(row[0]), states[text(row[1])], int(row[2])) for row in reply]
