"""Networks of containers, without the cloud's metadata address."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Any

from executor.containers.base import ContainerError, Peers

if TYPE_CHECKING:
    from docker import APIClient

NETWORK = "simherd"
_BRIDGE = "simherd0"
#: Where clouds serve machine credentials to every client (169.254.169.254 and its neighbours).
_LINK_LOCAL = "169.254.0.0/16"


def guarded_network(api: APIClient) -> str:
    """Return the name of the guarded network, which is made if it does not exist.
    Raises ContainerError: the metadata address cannot be kept out of reach."""
    if not api.networks(names=[NETWORK]):
        api.create_network(
            NETWORK,
            driver="bridge",
            options={
                "com.docker.network.bridge.name": _BRIDGE,
                # Simulations of different tasks must not reach each other.
                "com.docker.network.bridge.enable_icc": "false",
            },
            check_duplicate=True,
        )
    # Before routing, so that the rule also holds for an address of this machine.
    rule = ["PREROUTING", "-i", _BRIDGE, "-d", _LINK_LOCAL, "-j", "DROP"]
    if _iptables("-C", rule):
        refused = _iptables("-A", rule)
        if refused:
            raise ContainerError(f"The metadata address cannot be kept out of reach: {refused}")
    return NETWORK


def closed_network(api: APIClient, name: str) -> str:
    """Make a network that leads nowhere else if it does not exist; return its addresses. It has no
    gateway, so the metadata address is out of reach without a rule."""
    if not _networks(api, name):
        api.create_network(
            name,
            driver="bridge",
            internal=True,
            labels={"simherd.network": name},
            check_duplicate=True,
        )
    (network,) = _networks(api, name)[:1]
    return str(network["IPAM"]["Config"][0]["Subnet"])


def _networks(api: APIClient, name: str) -> list[dict[str, Any]]:
    # The engine's filter takes any part of a name.
    return [network for network in api.networks(names=[name]) if network["Name"] == name]


def on_network(
    api: APIClient, peers: Peers, *, alone: bool
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the options that put a container on a closed network: of creation, of its host config.
    `alone`: the container is on no other network."""
    here = api.create_endpoint_config(aliases=[peers.hostname])
    together = {
        "hostname": peers.hostname,
        # The SDK's hints take one network's part for the whole.
        "networking_config": api.create_networking_config({peers.network: here}),  # type: ignore[arg-type]
    }
    # Names outside this network are not looked up: each would take a minute.
    silent = {"dns": ["127.0.0.1"], "dns_opt": ["timeout:1", "attempts:1"]}
    return together, silent if alone else {}


def _iptables(verb: str, rule: list[str]) -> str:
    """Return why the rule could not be applied; empty when it was."""
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
