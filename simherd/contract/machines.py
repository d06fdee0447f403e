"""What people are shown of a machine that is silent."""

from __future__ import annotations

from simherd.contract.limits import HEARTBEAT_S, LEASE_S

#: The state of a machine that was not heard of for `SUSPECT_S` seconds.
SUSPECT = "suspect"
SUSPECT_S = LEASE_S + HEARTBEAT_S
