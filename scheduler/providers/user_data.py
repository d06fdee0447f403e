"""What an EC2 machine is told at its first start, for cloud-init."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scheduler.providers.base import Ticket

#: What EC2 takes of user data, bytes, before base64.
MAX_BYTES = 16 * 1024
TICKET_FILE = "/etc/simherd/ticket.json"
UNIT_FILE = "/etc/systemd/system/simherd-executor.service"

# Containers must not reach the machine's credentials. Docker makes the chain, so the rule is put
# there after each start of the engine; where it cannot be, nothing runs.
_RULE = "DOCKER-USER -d 169.254.169.254 -j DROP"
_UNIT = f"""\
[Unit]
Description=Simherd executor
Wants=network-online.target docker.service
After=network-online.target docker.service
StartLimitIntervalSec=0

[Service]
Environment=SIMHERD_TICKET_FILE={TICKET_FILE}
Environment=SIMHERD_STATE_DIR=/var/lib/simherd
Environment=SIMHERD_BACKEND=docker
Environment=SIMHERD_SPOT_NOTICES=aws
ExecStartPre=/bin/sh -c 'iptables -w 5 -C {_RULE} 2>/dev/null || iptables -w 5 -I {_RULE}'
ExecStartPre=/bin/mkdir -p /var/lib/simherd
ExecStart=/opt/simherd/bin/simherd-executor
Restart=always
RestartSec=5
KillMode=process
OOMScoreAdjust=-500

[Install]
WantedBy=multi-user.target
"""


def cloud_config(ticket: Ticket, machine_id: str) -> str:
    """The cloud-init text that makes a fresh machine join. It holds the ticket: a secret.

    Raises:
        ValueError: it is longer than EC2 takes; the message holds nothing of it.
    """
    # Both are ASCII without control characters, whatever the values: JSON like that is YAML.
    secret = json.dumps({"api_url": ticket.api_url, "token": ticket.token})
    config = {
        "write_files": [
            _file(TICKET_FILE, secret + "\n", "0600"),
            _file(UNIT_FILE, _UNIT, "0644"),
        ],
        "runcmd": [
            ["systemctl", "daemon-reload"],
            # cloud-init does not wait for it: the unit itself waits for Docker.
            ["systemctl", "enable", "--now", "--no-block", "simherd-executor.service"],
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
