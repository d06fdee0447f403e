"""What a fresh EC2 machine is told."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from scheduler.providers.base import LaunchTicket
from scheduler.providers.user_data import MAX_BYTES, TICKET_FILE, UNIT, UNIT_FILE, cloud_config
from tests.conftest import REPOSITORY

DEPLOY = REPOSITORY / "deploy"


def files(text: str) -> dict[str, dict[str, Any]]:
    assert text.startswith("#cloud-config\n")
    return {f["path"]: f for f in yaml.safe_load(text)["write_files"]}


@given(st.text(), st.text(), st.uuids().map(str))
@example('"\n- evil: [', "\U0001f600 \x7f\x85\u2028 {{ x }} ${y} %z", "m")
def test_any_value_arrives_unchanged(url: str, token: str, machine_id: str) -> None:
    text = cloud_config(LaunchTicket(url, token), machine_id)

    ticket = files(text)[TICKET_FILE]
    assert json.loads(ticket["content"]) == {"api_url": url, "token": token}
    assert (ticket["permissions"], ticket["owner"]) == ("0600", "root:root")
    assert text.isascii()


def test_the_executor_is_a_service_that_outlives_its_crashes() -> None:
    text = cloud_config(LaunchTicket("https://api", "t"), "m-1")

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


def test_the_unit_is_the_one_that_images_have() -> None:
    unit = files(cloud_config(LaunchTicket("https://api", "t"), "m-1"))[UNIT_FILE]["content"]

    assert unit == (DEPLOY / "systemd" / UNIT).read_text(encoding="utf-8")
    assert f"Environment=SIMHERD_TICKET_FILE={TICKET_FILE}\n" in unit


def test_a_machine_by_hand_gets_the_same_but_for_the_unit() -> None:
    sent = yaml.safe_load(cloud_config(LaunchTicket("API_URL", "TOKEN"), "m-1"))
    by_hand = yaml.safe_load((DEPLOY / "cloud-init" / "machine.yaml").read_text(encoding="utf-8"))

    assert by_hand["write_files"] == [f for f in sent["write_files"] if f["path"] == TICKET_FILE]
    assert by_hand["runcmd"] == sent["runcmd"]


def test_it_fits_or_is_refused() -> None:
    room = MAX_BYTES - len(cloud_config(LaunchTicket("https://api", ""), "m-1"))

    assert len(cloud_config(LaunchTicket("https://api", "x" * room), "m-1")) == MAX_BYTES
    with pytest.raises(ValueError, match="16384"):
        cloud_config(LaunchTicket("https://api", "x" * (room + 1)), "m-1")
