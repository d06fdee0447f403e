"""Registering events, and looking after them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from simherd.http import api

if TYPE_CHECKING:
    from simherd.events.actions import Action
    from simherd.events.triggers import Trigger


class Event:
    """A registered event.

    Attributes:
        id: finds it again.
        info: all that the server says of it: `trigger`, `action`, `state`, `state_detail`,
            `created_at`; after `get` also `deliveries`.
        secret: what its webhooks are signed with; only `register` returns it, once.
    """

    def __init__(self, info: dict[str, Any]) -> None:
        self.id: str = info["event_id"]
        self.secret: str | None = info.get("secret")
        self.info = {name: value for name, value in info.items() if name != "secret"}

    def __repr__(self) -> str:
        return f"Event(id={self.id!r}, state={self.state!r})"

    @property
    def state(self) -> str:
        """Where it stands: waiting, delivering, delivered, disabled or over."""
        return str(self.info["state"])

    @property
    def deliveries(self) -> list[dict[str, Any]]:
        """What was to be sent and how that went, oldest first; asks the server."""
        return list(get(self.id).info["deliveries"])


def register(trigger: Trigger, action: Action) -> Event:
    """Have something done when something happens; at once, where it has happened already.

    Raises:
        NotFound: the task or the machine group is not yours.
        ApiError: it can never happen, an address or a pattern cannot be, or too many are open.
    """
    body = {"trigger": trigger.get_trigger(), "action": action.get_action()}
    return Event(api().post("/events/", body))


def list_events() -> list[Event]:
    """Your events, newest first."""
    return [Event(row) for row in api().get("/v1/events")]


def get(event_id: str) -> Event:
    """An event with its deliveries.

    Raises:
        NotFound: you have none of this id.
    """
    return Event(api().get(f"/v1/events/{quote(event_id, safe='')}"))


def remove(event_id: str) -> None:
    """Remove an event; nothing more is sent for it.

    Raises:
        NotFound: you have none of this id.
    """
    api().delete(f"/events/{quote(event_id, safe='')}")
