"""What a machine may do in Redis: its own user, its group's keys, the commands it needs.

Redis forgets its users and scripts when it restarts; both are restored from SQL. Redis checks
commands inside scripts as well, so the list holds what the scripts call.
"""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from typing import TYPE_CHECKING, Any

import redis

from scheduler.queue.notes import write_note
from simherd.contract.join import redis_user
from simherd.contract.queue import scripts
from simherd.contract.queue.keys import ACCESS, GroupKeys

if TYPE_CHECKING:
    from collections.abc import Iterable

log = logging.getLogger(__name__)

#: Never UNLINK: it is what keeps the scheduler's own scripts from them, see `unlimited.lua`.
_COMMANDS = (
    *("evalsha", "time", "ping", "del", "expire", "persist", "blpop"),
    *("hget", "hset", "hdel", "hincrby", "zadd", "zrem", "zrange", "zscore", "zcard", "zcount"),
    *("xadd", "xread", "xlen", "exists"),
    # For the claims of agents of release 0.1.
    *("get", "set"),
)
_MPI_COMMANDS = ("hgetall", "zremrangebyscore")


def grant_acl(
    client: redis.Redis, group: str, machine_id: str, digests: Iterable[str], *, gangs: bool = False
) -> None:
    """Give a machine its rights, with any of these passwords.

    `digests`: the SHA-256 of each password; `gangs`: whether the machines of the group work
    together.
    """
    rules = [
        *("reset", "on", "resetchannels"),
        *(f"#{digest}" for digest in digests),
        *(f"~{pattern}" for pattern in GroupKeys(group).of_executor(machine_id, gangs=gangs)),
        *(f"+{command}" for command in (*_COMMANDS, *(_MPI_COMMANDS if gangs else ()))),
    ]
    _acl(client, "SETUSER", redis_user(machine_id), *rules)


def revoke_acl(client: redis.Redis, machine_id: str) -> None:
    """Remove a machine's rights; its connections end."""
    _acl(client, "DELUSER", redis_user(machine_id))


def load_scripts(client: redis.Redis) -> None:
    """Load the scripts that executors call: they may run scripts, but load none."""
    for source in scripts.sources_of_agents():
        client.script_load(source)


def machines_with_acl(client: redis.Redis) -> set[str]:
    """Return the machines that have a user."""
    prefix = redis_user("")
    return {
        text.removeprefix(prefix)
        for text in map(scripts.text, _acl(client, "USERS"))
        if text.startswith(prefix) and text != prefix
    }


def connections(client: redis.Redis) -> dict[str, int]:
    """Return machine → its connections; empty where the scheduler has no right to list them."""
    prefix = redis_user("")
    try:
        clients: Any = client.client_list(_type="normal")
    except redis.exceptions.NoPermissionError as error:
        # A deployment whose users of Redis were made by a release before this one.
        log.warning("event=connections_not_counted error=%s", error)
        return {}
    users = (str(row.get("user", "")) for row in clients)
    return dict(Counter(u.removeprefix(prefix) for u in users if u.startswith(prefix)))


def acl_lost(client: redis.Redis, run_id: str) -> bool:
    """Return whether this Redis was started or emptied since `mark_acl`, or the rights changed."""
    return client.get(ACCESS) != _access_note(run_id)


def mark_acl(client: redis.Redis, run_id: str) -> None:
    """Record that every machine has its user in this Redis."""
    write_note(client, ACCESS, _access_note(run_id))


def _access_note(run_id: str) -> str:
    keys = GroupKeys("").of_executor("", gangs=True)
    rights = " ".join((*_COMMANDS, *_MPI_COMMANDS, *keys))
    return f"{run_id} {hashlib.sha256(rights.encode()).hexdigest()[:12]}"


def _acl(client: redis.Redis, *words: str) -> Any:
    # The library's own `acl_setuser` hides which rules are sent; these are the words of Redis.
    return client.execute_command("ACL", *words)  # type: ignore[no-untyped-call]
