"""Groups whose keys are broken: set aside, shown, made anew, or terminated."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
import redis

from scheduler.providers.base import MachineState
from scheduler.services.accounts.users import create_key
from scheduler.services.control.expire_deadlines import DEADLINE_BACKSTOP_S
from scheduler.services.control.orphans import examine
from scheduler.services.control.quarantine import repair_group
from scheduler.services.control.sweep import sweep
from scheduler.services.errors import Conflict, ResourceNotFound
from scheduler.services.groups.admin import remove_machine
from scheduler.services.groups.terminate import request_termination
from scheduler.store.models import User
from simherd.contract.cause import Cause
from simherd.contract.lifecycle import Status
from simherd.contract.queue.keys import GroupKeys
from tests.support.api import serving, user_of
from tests.support.builders import make_task
from tests.support.cloud import Fleet, open_fleet
from tests.support.hostile import RUN
from tests.support.runtime import recording
from tests.support.tenants import Tenant, ended, task_now
from tests.support.waits import until

if TYPE_CHECKING:
    from pathlib import Path

    from scheduler.store.engine import Store
    from scheduler.store.models import GroupRow


@pytest.fixture
def fleet(store: Store, database_url: str, redis_url: str, tmp_path: Path) -> Fleet:
    redis.Redis.from_url(redis_url).flushdb()
    return open_fleet(database_url, redis_url, tmp_path)


def test_broken_keys_are_set_aside_and_rebuilt(fleet: Fleet) -> None:
    thief, other = Tenant(fleet), Tenant(fleet)
    stranger, rt = thief.stolen(), fleet.rt
    with rt.store.write() as session:
        key, others_key = (
            create_key(session, thief.group.user_id, "t"),
            create_key(session, other.group.user_id, "o"),
        )
        session.get_one(User, other.group.user_id).is_operator = True
        operators_key = create_key(session, other.group.user_id, "operator")
    with serving(rt) as url, user_of(url, key) as mine, user_of(url, others_key) as theirs:
        with pytest.raises(Conflict, match="not quarantined"):
            repair_group(rt, "operator", thief.group.id)
        for name, act in stranger.breaks():
            machine, task = other.honest(), other.task()
            machine.claim()
            with recording(rt):
                act()
                for _ in RUN:
                    machine.report()
                    assert machine.beat() in {"held", "recorded"}
                    sweep(rt, 0)
                over = until(lambda t=task: ended(fleet, t.id), what=f"{name}: the task to end")  # type: ignore[misc]
                assert over.status == Status.SUCCESS
                until(lambda m=machine: m.beat() == "recorded", what="the last report")  # type: ignore[misc]
            machine.close()
            shown = mine.get(f"/compute/group/{thief.group.name}").json()
            reason = shown["quarantine"]["reason"]
            assert name.split(":")[0] in reason or "not an integer" in reason, (name, reason)
            kinds = {(f.kind, f.what) for f in examine(rt, fix=False)}
            assert ("quarantined_group", thief.group.id) in kinds
            assert theirs.get("/compute/groups").json()[0]["quarantine"] is None
            why = mine.get(f"/v1/tasks/{stranger.task}/explain").json()
            assert why["reason"] == "group_quarantined"
            # It takes no tasks meanwhile, and says why.
            refused = mine.post(
                "/tasks/submit",
                json={
                    "simulator": "arbitrary_commands",
                    "resource_pool": thief.group.id,
                    "container_image": "any",
                    "extra_params": {"commands": [{"cmd": "true"}]},
                },
            )
            assert refused.status_code == 409
            assert "quarantined" in refused.json()["detail"]
            _repair(url, operators_key, thief.group.name)
            assert mine.get(f"/compute/group/{thief.group.name}").json()["quarantine"] is None
            # What waits is there again, and the machine's own work goes on.
            assert rt.queue.reader.waiting(thief.group.id, 0, 9) == [f"{stranger.task}:1"]
    honest = thief.honest()
    assert honest.claim() == f"{stranger.task}:1"
    with recording(rt):
        for _ in RUN:
            honest.report()
        over = until(lambda: ended(fleet, stranger.task), what="the task to end")
    assert over.status == Status.SUCCESS
    honest.close()
    stranger.client.close()


def test_broken_keys_keep_no_deadline_from_being_kept(fleet: Fleet) -> None:
    thief, other = Tenant(fleet), Tenant(fleet)
    stranger, past = thief.stolen(), time.time() - 10 * DEADLINE_BACKSTOP_S
    with fleet.rt.store.write() as session:
        late = [
            make_task(
                session,
                tenant.group,
                status=Status.COMPUTATION_STARTED.value,
                machine_id=tenant.machine.id,
                deadline_at=past,
            )
            for tenant in (thief, other)
        ]
    dict(stranger.breaks())["leases"]()
    sweep(fleet.rt, 0)
    assert [task_now(fleet, task.id).status for task in late] == [Status.TTL_EXCEEDED] * 2
    assert fleet.now(thief.group).quarantined_at is not None
    assert fleet.now(other.group).quarantined_at is None
    stranger.client.close()


def test_an_inbox_that_takes_no_message_holds_up_no_other_group(fleet: Fleet) -> None:
    """Its machine writes the last id that there is: every order for it fails from then on."""
    thief, other = Tenant(fleet), Tenant(fleet)
    stranger, last = thief.stolen(), f"{2**64 - 1}-{2**64 - 1}"
    stranger.client.xadd(stranger.keys.inbox(stranger.machine), {"m": "x"}, id=last)
    machine, task = other.honest(), other.task()
    machine.claim()
    with recording(fleet.rt):
        for number, _ in enumerate(RUN):
            # It speaks for an attempt that is over: the recorder tells it to stop.
            stranger.forge(RUN[0][0], stranger.task, number + 1, attempt=77)
            machine.report()
            assert machine.beat() in {"held", "recorded"}
            sweep(fleet.rt, 0)
        over = until(lambda: ended(fleet, task.id), what="the task to end")
        assert over.status == Status.SUCCESS
        until(lambda: fleet.now(thief.group).quarantined_at is not None, what="the quarantine")
    machine.close()
    stranger.client.close()


def _swept(fleet: Fleet, group: GroupRow) -> str:
    sweep(fleet.rt, 0)
    return fleet.now(group).status


def _repair(url: str, key: str, group: str) -> None:
    """Repair a group as an operator does."""
    done = subprocess.run(
        [sys.executable, "-m", "simherd.cli.main", "admin", "groups", "repair", group],
        env={"PATH": os.environ["PATH"], "SIMHERD_API_URL": url, "SIMHERD_API_KEY": key},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "is repaired" in done.stdout


def test_a_machine_that_is_removed_is_let_in_no_more(fleet: Fleet) -> None:
    tenant = Tenant(fleet)
    task, machine = tenant.task(), tenant.honest()
    machine.claim()
    with pytest.raises(ResourceNotFound, match="no machine 'no-such'"):
        remove_machine(fleet.rt, "operator", tenant.group.id, "no-such")
    remove_machine(fleet.rt, "operator", tenant.group.id, tenant.machine.name)
    with pytest.raises(redis.RedisError):
        machine.beat()
    assert fleet.cloud.states[tenant.machine.id] is MachineState.GONE
    sweep(fleet.rt, 0)
    assert task_now(fleet, task.id).status == Status.EXECUTER_TERMINATED
    machine.close()


def test_a_quarantined_group_can_be_terminated(fleet: Fleet) -> None:
    thief = Tenant(fleet)
    stranger = thief.stolen()
    dict(stranger.breaks())["queue"]()
    sweep(fleet.rt, 0)
    assert fleet.now(thief.group).quarantined_at is not None
    request_termination(fleet.rt, fleet.now(thief.group), Cause.GROUP_TERMINATED)
    until(lambda: _swept(fleet, thief.group) == "terminated", what="the group to end")
    assert task_now(fleet, stranger.task).end_time is not None
    assert not list(fleet.rt.queue.servers.main.scan_iter(GroupKeys(thief.group.id).every))
    stranger.client.close()
