"""What is done when an event happens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from simherd.contract.notifications import ActionType


class Action(Protocol):
    """Whatever can say what is to be done."""

    def get_action(self) -> dict[str, str]:
        """Return the action as the request has it."""


@dataclass(frozen=True)
class EmailNotification:
    """A message to an address; the server must have a mail server."""

    email_address: str

    def get_action(self) -> dict[str, str]:
        """See `Action`."""
        return {"action_type": ActionType.EMAIL.value, "email_address": self.email_address}


@dataclass(frozen=True)
class WebhookNotification:
    """A signed POST to a URL on the internet."""

    webhook_url: str

    def get_action(self) -> dict[str, str]:
        """See `Action`."""
        return {"action_type": ActionType.WEBHOOK.value, "webhook_url": self.webhook_url}
