"""What a fresh EC2 machine is told."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from scheduler.providers.base import Ticket
from scheduler.providers.user_data import MAX_BYTES, TICKET_FILE, UNIT_FILE, cloud_config


def files(text: str) -> dict[str, dict[str, Any]]:
    assert text.startswith("#cloud-config\n")
    return {f["path"]: f for f in yaml.safe_load(text)["write_files"]}


@given(st.text(), st.text(), st.uuids().map(str))
@example('"\n- evil: [', "\U0001f600 \x7f\x85\u2028 {{ x }} ${y} %z", "m")
def test_whatever_the_values_are_they_arrive(url: str, token: str, machine_id: str) -> None:
    text = cloud_config(Ticket(url, token), machine_id)

    ticket = files(text)[TICKET_FILE]
    assert json.loads(ticket["content"]) == {"api_url": url, "token": token}
    assert (ticket["permissions"], ticket["owner"]) == ("0600", "root:root")
    assert text.isascii()


def test_the_executor_is_a_service_that_outlives_its_crashes() -> None:
    text = cloud_config(Ticket("https://api", "t"), "m-1")

    unit = files(text)[UNIT_FILE]
    lines = unit["content"].splitlines()
    for line in (
        "ExecStart=/opt/simherd/bin/simherd-executor",
        "Restart=always",
        "KillMode=process",
        "OOMScoreAdjust=-500",
        "Environment=SIMHERD_TICKET_FILE=/etc/simherd/ticket.json",
        "Environment=SIMHERD_STATE_DIR=/var/lib/simherd",
        "Environment=SIMHERD_BACKEND=docker",
        "Environment=SIMHERD_SPOT_NOTICES=aws",
    ):
        assert line in lines[lines.index("[Service]") : lines.index("[Install]")]
    # The rule is set before the executor is there, at each start.
    rule = next(line for line in lines if "DOCKER-USER" in line)
    assert rule.startswith("ExecStartPre=/")
    assert "-I DOCKER-USER -d 169.254.169.254 -j DROP" in rule
    start = yaml.safe_load(text)["runcmd"][-1]
    assert start[:3] == ["systemctl", "enable", "--now"]
    assert start[-1] == "simherd-executor.service"


def test_it_fits_or_is_refused() -> None:
    room = MAX_BYTES - len(cloud_config(Ticket("https://api", ""), "m-1"))

    assert len(cloud_config(Ticket("https://api", "x" * room), "m-1")) == MAX_BYTES
    with pytest.raises(ValueError, match="16384"):
        cloud_config(Ticket("https://api", "x" * (room + 1)), "m-1")
