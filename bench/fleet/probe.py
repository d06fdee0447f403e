"""One more executor, in its own process: what the servers take, and not the process that plays
all the others."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import redis

from bench.fleet.agents import claim, events, renewal
from simherd.contract.queue import scripts
from simherd.contract.queue.keys import GroupKeys

if TYPE_CHECKING:
    from bench.fleet.rows import Group

#: Seconds between two heartbeats while the recorder is waited for.
_LOOK_S = 0.005
#: Seconds that the recorder has at the most.
_PATIENCE_S = 60.0


@dataclass
class Probed:
    """What it has seen; seconds."""

    claims: list[float] = field(default_factory=list)
    beats: list[float] = field(default_factory=list)
    #: From an attempt's reports to its end in SQL.
    records: list[float] = field(default_factory=list)


def probe(url: str, group: Group, rounds: int) -> Probed:
    """Claim a task, report all of it, and wait until that is recorded; again and again."""
    client, keys, seen = redis.Redis.from_url(url), GroupKeys(group.id), Probed()
    run = {name: client.register_script(scripts.source(name)) for name in ("claim", "renew")}
    # In the name of one that is there: its own attempts are none of the probe's.
    machine = group.machines[0]
    for _ in range(rounds):
        token, began = secrets.token_hex(16), time.monotonic()
        places, arguments = claim(keys, machine, token)
        claimed = scripts.claim_reply(run["claim"](keys=places, args=arguments))
        seen.claims.append(time.monotonic() - began)
        if claimed is None:
            break
        reports, began = events(claimed.attempt, machine), time.monotonic()
        pipe = client.pipeline(transaction=False)
        for event in reports:
            pipe.xadd(keys.events, {"e": event.encode()})
        pipe.execute()
        held = [claimed.attempt, token, len(reports), "1"]
        while time.monotonic() - began < _PATIENCE_S:
            looked = time.monotonic()
            places, arguments = renewal(keys, machine, held)
            (renewed,) = scripts.renew_reply(run["renew"](keys=places, args=arguments))
            seen.beats.append(time.monotonic() - looked)
            if renewed.state != "held":
                break
            time.sleep(_LOOK_S)
        seen.records.append(time.monotonic() - began)
    return seen
