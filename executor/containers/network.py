"""A network for containers that may have one, without the cloud's metadata address."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Any

from executor.containers.base import ContainerError

if TYPE_CHECKING:
    from docker import APIClient

    from executor.containers.base import Peers

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


def closed_network(api: APIClient, name: str) -> str:
    """Have a network that leads nowhere else, and answer its addresses.

    It has no gateway: so the metadata address is out of reach without a rule.
    """
    if not _networks(api, name):
        api.create_network(
            name,
            driver="bridge",
            internal=True,
            labels={"simherd.network": name},
            check_duplicate=True,
        )
    (found,) = _networks(api, name)[:1]
    return str(found["IPAM"]["Config"][0]["Subnet"])


def _networks(api: APIClient, name: str) -> list[dict[str, Any]]:
    # The engine's filter takes any part of a name.
    return [found for found in api.networks(names=[name]) if found["Name"] == name]


def on_network(
    api: APIClient, peers: Peers, *, alone: bool
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What puts a container on a closed network: for its creation, and for its host's part.

    `alone`: it is on no other network.
    """
    here = api.create_endpoint_config(aliases=[peers.hostname])
    together = {
        "hostname": peers.hostname,
        # The SDK's hints take one network's part for the whole.
        "networking_config": api.create_networking_config({peers.network: here}),  # type: ignore[arg-type]
    }
    # Names that are not of this network are asked for nowhere: each would take a minute.
    silent = {"dns": ["127.0.0.1"], "dns_opt": ["timeout:1", "attempts:1"]}
    return together, silent if alone else {}


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
