"""A network for containers that may have one, without the cloud's metadata address."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from executor.containers.base import ContainerError

if TYPE_CHECKING:
    from docker import APIClient

NETWORK = "simherd"
_BRIDGE = "simherd0"
#: Where clouds serve machine credentials to whoever asks (169.254.169.254 and its neighbours).
_LINK_LOCAL = "169.254.0.0/16"


def guarded_network(api: APIClient) -> str:
    """The name of the network, made if need be.

    Raises:
        ContainerError: the metadata address cannot be kept out of reach.
    """
    if not api.networks(names=[NETWORK]):
        api.create_network(
            NETWORK,
            driver="bridge",
            options={
                "com.docker.network.bridge.name": _BRIDGE,
                # Simulations of different tasks have nothing to say to each other.
                "com.docker.network.bridge.enable_icc": "false",
            },
            check_duplicate=True,
        )
    # Before routing: so the rule holds for an address of this machine, too.
    rule = ["PREROUTING", "-i", _BRIDGE, "-d", _LINK_LOCAL, "-j", "DROP"]
    if _iptables("-C", rule):
        refused = _iptables("-A", rule)
        if refused:
            raise ContainerError(f"The metadata address cannot be kept out of reach: {refused}")
    return NETWORK


def _iptables(verb: str, rule: list[str]) -> str:
    """Empty, or why not."""
    try:
        done = subprocess.run(
            ["iptables", "-w", "5", "-t", "raw", verb, *rule],
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        return "iptables is not installed"
    return done.stderr.strip() or "iptables failed" if done.returncode else ""
