"""The user data with which cloud-init makes an EC2 machine join at its first start."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scheduler.providers.base import LaunchTicket

#: The longest user data that EC2 accepts, bytes, before base64.
MAX_BYTES = 16 * 1024
TICKET_FILE = "/etc/simherd/ticket.json"
UNIT = "simherd-executor.service"
UNIT_FILE = f"/etc/systemd/system/{UNIT}"


def cloud_config(ticket: LaunchTicket, machine_id: str) -> str:
    """Return the cloud-init text that makes a new machine join. It holds the ticket: a secret.
    Raises ValueError: it is longer than EC2 accepts; the message holds nothing of it."""
    # Both are ASCII without control characters, whatever the values: JSON like that is YAML.
    secret = json.dumps({"api_url": ticket.api_url, "token": ticket.token})
    unit = files(__package__).joinpath(UNIT).read_text(encoding="utf-8")
    config = {
        "write_files": [_file(TICKET_FILE, secret + "\n", "0600"), _file(UNIT_FILE, unit, "0644")],
        "runcmd": [
            ["systemctl", "daemon-reload"],
            # cloud-init does not wait for it: the unit itself waits for Docker.
            ["systemctl", "enable", "--now", "--no-block", UNIT],
        ],
        # The last line on the machine's console, which EC2 shows.
        "final_message": f"simherd: machine {machine_id} is set up",
    }
    text = f"#cloud-config\n{json.dumps(config, indent=1)}\n"
    if len(text) > MAX_BYTES:
        raise ValueError(f"The user data is {len(text)} bytes; EC2 takes {MAX_BYTES}.")
    return text


def _file(path: str, content: str, mode: str) -> dict[str, str]:
    return {"path": path, "content": content, "owner": "root:root", "permissions": mode}
