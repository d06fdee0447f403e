"""The state that users see of a silent machine."""

from __future__ import annotations

from simherd.contract.limits import HEARTBEAT_S, LEASE_S

#: The state of a machine without a heartbeat for `SUSPECT_S` seconds.
SUSPECT = "suspect"
SUSPECT_S = LEASE_S + HEARTBEAT_S
