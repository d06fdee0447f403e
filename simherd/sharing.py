"""Sharing machine groups with other users, one by one: an offer that they have to accept.

Operators share with everyone: `simherd admin groups share`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from simherd.errors import InvalidInput
from simherd.http import api

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["accept", "decline", "offers", "share", "shares", "unshare"]

_OFFERS = "/v1/group-offers"


def share(name: str, username: str) -> None:
    """Offer a machine group to another user.

    Args:
        name: the group's name.
        username: whom it is offered to; they may send tasks to it once they accept.

    Raises:
        NotFound: there is no such group or user.
        ApiError: the group has ended.
    """
    api().post(_shares(name), {"username": username}, repeatable=True)


def unshare(name: str, username: str) -> None:
    """Let a user send no more tasks to a machine group; what they have submitted goes on.

    Args:
        name: the group's name.
        username: the user.

    Raises:
        NotFound: there is no such group, or it is not shared with this user.
    """
    api().delete(f"{_shares(name)}/{quote(username, safe='')}")


def shares(name: str) -> list[dict[str, Any]]:
    """The users that a machine group is shared with; `accepted_at` None: only offered."""
    found: list[dict[str, Any]] = api().get(_shares(name))
    return found


def offers() -> list[dict[str, Any]]:
    """The machine groups that others share with this user; `accepted_at` None: not accepted."""
    found: list[dict[str, Any]] = api().get(_OFFERS)
    return found


def accept(name: str, owner: str | None = None) -> None:
    """Use a machine group that is offered. Its owner can read what is sent there.

    Args:
        name: the group's name.
        owner: whose it is, where several offer one of this name.

    Raises:
        InvalidInput: no such group is offered, or several are.
        ApiError: the group has ended, or another one of its name can be seen.
    """
    waiting = [row for row in offers() if row["accepted_at"] is None]
    api().post(f"{_OFFERS}/{_the_one(waiting, name, owner)}/accept", repeatable=True)


def decline(name: str, owner: str | None = None) -> None:
    """Refuse a machine group that is offered, or use it no longer; the arguments are those of
    `accept`.

    Raises:
        InvalidInput: no such group is shared, or several are.
    """
    api().post(f"{_OFFERS}/{_the_one(offers(), name, owner)}/decline")


def _shares(name: str) -> str:
    return f"/v1/groups/{quote(name, safe='')}/shares"


def _the_one(rows: Sequence[dict[str, Any]], name: str, owner: str | None) -> str:
    """The id of the group that is meant."""
    found = [r for r in rows if r["group"] == name and owner in (None, r["owner"])]
    if not found:
        raise InvalidInput(f"name: no machine group {name!r} is offered to you.")
    if len(found) > 1:
        owners = ", ".join(row["owner"] for row in found)
        raise InvalidInput(f"name: {name!r} is offered by several: {owners}. Say whose (`--from`).")
    return str(found[0]["group_id"])
