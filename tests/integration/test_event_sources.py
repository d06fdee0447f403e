"""What makes events happen besides a task's status: machine groups, and observers."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from scheduler.providers.base import NoCapacity
from scheduler.services.attempts.spec import build_spec
from scheduler.services.groups.terminate import overdue_groups, request_termination, shut_down_group
from scheduler.services.machines.provision import retire, scale_group
from scheduler.services.machines.reclaim_notices import note_reclaim
from scheduler.services.watch.observers import notify_observers
from scheduler.store.engine import migrate
from scheduler.store.models import MachineRow
from simherd.contract.attempt_spec import AttemptSpec
from simherd.contract.cause import Cause
from simherd.contract.inbox import Message, Order
from simherd.contract.join import digest
from simherd.contract.lifecycle import Status
from simherd.contract.queue.keys import GroupKeys
from simherd.contract.reports import ReportKind
from tests.support.events import STARTED, Site, ended, of_file, of_group, serving
from tests.support.hooks import hook_server
from tests.support.runtime import add_machine, machine_of, make_runtime, recording, report
from tests.support.waits import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scheduler.store.models import TaskRow
    from scheduler.wiring import Runtime
    from tests.support.hooks import Hook
    from tests.support.runtime import Machines


@pytest.fixture
def hook() -> Iterator[Hook]:
    with hook_server() as made:
        yield made


@pytest.fixture(scope="module")
def served(
    redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Runtime, Machines, str]]:
    folder = tmp_path_factory.mktemp("events")
    database_url = f"sqlite:///{folder / 'test.db'}"
    migrate(database_url)
    rt, machines = make_runtime(database_url, redis_url, folder, outbound_allow="127.0.0.0/8")
    with serving(rt) as url:
        yield rt, machines, url


@pytest.fixture
def site(served: tuple[Runtime, Machines, str]) -> Site:
    rt, _, url = served
    return Site(rt, url)


def machine(site: Site, name: str, **fields: Any) -> str:
    """A spot machine of the group; its secret is its name."""
    values = {
        "id": f"{site.group.id}-{name}",
        "group_id": site.group.id,
        "name": name,
        "status": "started",
        "handle": {},
        "created_at": time.time(),
        "secret_digest": digest(name),
        "spot": True,
    }
    with site.rt.store.write() as session:
        session.add(MachineRow(**{**values, **fields}))
    return str(values["id"])


def test_the_end_of_a_group_is_notified(site: Site, hook: Hook) -> None:
    site.change_group(auto_terminate_at=time.time() - 1)
    events = {
        name: site.register(of_group(site, name), hook.url)
        for name in (
            "machine_group_time_limit_reached",
            "machine_group_terminated",
            "machine_group_preemption",
        )
    }
    ((group, cause),) = [
        row for row in overdue_groups(site.rt, "main", time.time()) if row[0].id == site.group.id
    ]
    request_termination(site.rt, group, cause)
    site.deliver()
    assert [c.json["trigger"] for c in hook.calls] == ["machine_group_time_limit_reached"]
    assert hook.calls[0].json["machine_group_id"] == site.group.id
    assert shut_down_group(site.rt, site.group.id)
    site.deliver()
    assert [c.json["trigger"] for c in hook.calls[1:]] == ["machine_group_terminated"]
    assert site.event(events["machine_group_preemption"])["state"] == "over"
    again = site.register(of_group(site, "machine_group_terminated"), hook.url)
    assert again["state"] == "delivering"
    assert site.deliver() == 1
    refused = site.request(of_group(site, "machine_group_preemption"), hook.url)
    assert refused.status_code == 422


def test_a_group_that_is_ended_by_hand_has_not_reached_its_limit(site: Site, hook: Hook) -> None:
    event = site.register(of_group(site, "machine_group_time_limit_reached"), hook.url)
    request_termination(site.rt, site.group, Cause.GROUP_TERMINATED)
    shut_down_group(site.rt, site.group.id)
    assert site.deliver() == 0
    assert site.event(event)["state"] == "over"


def test_each_reclaimed_machine_is_notified_once(site: Site, hook: Hook) -> None:
    event = site.register(of_group(site, "machine_group_preemption"), hook.url)
    warned, taken = machine(site, "m1"), machine(site, "m2")
    for _ in range(2):
        note_reclaim(site.rt, warned, "m1", time.time() + 100)
    with site.rt.store.read() as session:
        row = session.get_one(MachineRow, taken)
    # Without a warning, too.
    retire(site.rt, site.group, row, "It is gone.", taken=True)
    site.deliver()
    assert sorted(c.json["machine_id"] for c in hook.calls) == sorted([warned, taken])
    shown = site.event(event)
    assert shown["state"] == "waiting"
    assert [d["state"] for d in shown["deliveries"]] == ["delivered", "delivered"]


def test_a_group_that_gets_no_machines_is_notified(
    site: Site, served: tuple[Runtime, Machines, str], hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_plan: object) -> dict[str, Any]:
        raise NoCapacity("There is none just now.")

    monkeypatch.setattr(served[1], "launch", refuse)
    site.change_group(status="starting")
    event = site.register(of_group(site, "machine_group_pending_start"), hook.url)
    scale_group(site.rt, site.group.id)
    site.deliver()
    assert [c.json["trigger"] for c in hook.calls] == ["machine_group_pending_start"]
    assert site.event(event)["state"] == "delivered"
    site.register(of_group(site, "machine_group_pending_start"), hook.url)
    site.deliver()
    assert len(hook.calls) == 2


def orders(site: Site) -> list[Message]:
    """What the machine of the group was sent."""
    key = GroupKeys(site.group.id).inbox(machine_of(site.group.id))
    entries: Any = site.rt.queue.servers.main.xrange(key)
    return [Message.decode(fields["m"]) for _, fields in entries]


def hold(site: Site, task: TaskRow) -> None:
    """Have the machine of the group hold the task's attempt."""
    machine = machine_of(site.group.id)
    add_machine(site.rt, site.group.id, machine)
    key = GroupKeys(site.group.id).lease(f"{task.id}:{task.attempt}")
    site.rt.queue.servers.main.hset(key, "holder", machine)


def test_what_an_executor_finds_is_delivered_once(site: Site, hook: Hook) -> None:
    task, other = site.task(), site.task()
    event = site.register(of_file(task, "log.txt", "step (?P<n>\\d+)"), hook.url)
    captured = {"match": "step 7", "groups": ["7"], "named": {"n": "7"}}
    found = (ReportKind.OBSERVED, {"observer_id": event["event_id"], "captured": captured})
    site.report(other, STARTED, found)
    assert site.deliver() == 0
    site.report(task, STARTED, found, found)
    assert site.deliver() == 1
    (call,) = hook.calls
    told = {name: call.json[name] for name in ("trigger", "task_id", "file_path", "captured")}
    assert told == {
        "trigger": "file_regex_observer",
        "task_id": task.id,
        "file_path": "log.txt",
        "captured": captured,
    }


def test_a_pattern_that_cannot_be_looked_for_is_disabled(site: Site, hook: Hook) -> None:
    task = site.task()
    event = site.register(of_file(task, "log.txt", "(a+)+$"), hook.url)
    body = {"observer_id": event["event_id"], "trouble": "The pattern took more than 1 s."}
    site.report(task, STARTED, (ReportKind.OBSERVED, body))
    shown = site.event(event)
    assert (shown["state"], shown["state_detail"]) == ("disabled", body["trouble"])
    assert site.deliver() == 0


@pytest.mark.parametrize("resubmit", [True, False])
def test_the_unread_rest_of_a_file_is_reported(site: Site, hook: Hook, resubmit: bool) -> None:
    task = site.task(resubmit=resubmit)
    event = site.register(of_file(task, "log.txt", "x"), hook.url)
    body = {"observer_id": event["event_id"], "trouble": "9 bytes were missed.", "missed": 9}
    site.report(task, STARTED, (ReportKind.OBSERVED, body), ended(Cause.AGENT_STOPPED))
    shown = site.event(event)
    over = ("over", "The task has ended, and this never happened. 9 bytes were missed.")
    # Where another attempt follows it looks again.
    waiting = ("waiting", "9 bytes were missed.")
    assert (shown["state"], shown["state_detail"]) == (waiting if resubmit else over)
    assert site.deliver() == 0


def test_a_waiting_task_takes_its_observers_along(site: Site, hook: Hook) -> None:
    task = site.task()
    event = site.register(of_file(task, "a//b.txt"), hook.url)
    spec: Any = site.rt.queue.servers.main.hget(GroupKeys(site.group.id).specs, f"{task.id}:1")
    assert event["event_id"] in spec
    assert [o.path for o in build_spec(site.rt, site.now(task)).observers] == ["a/b.txt"]
    site.api.delete(f"/events/{event['event_id']}")
    assert build_spec(site.rt, site.now(task)).observers == ()


def test_the_next_attempt_continues_to_observe(site: Site, hook: Hook) -> None:
    task = site.task(resubmit=True)
    event = site.register(of_file(task), hook.url)
    site.report(task, STARTED, ended(Cause.AGENT_STOPPED))
    spec: Any = site.rt.queue.servers.main.hget(GroupKeys(site.group.id).specs, f"{task.id}:2")
    assert [o.id for o in AttemptSpec.decode(spec).observers] == [event["event_id"]]


def test_the_holder_of_a_running_task_gets_a_message(site: Site, hook: Hook) -> None:
    task = site.task(status=Status.COMPUTATION_STARTED.value)
    # Nobody holds it, as far as Redis knows: the next look does it.
    event = site.register(of_file(task), hook.url)
    assert orders(site) == []
    hold(site, task)
    notify_observers(site.rt)
    notify_observers(site.rt)
    (order,) = orders(site)
    assert (order.order, order.attempt) == (Order.OBSERVE, f"{task.id}:1")
    assert order.body == {
        "observers": [{"id": event["event_id"], "path": "out.txt", "regex": None}]
    }


def test_an_observer_that_comes_between_claim_and_start_is_sent(site: Site, hook: Hook) -> None:
    task = site.task()
    hold(site, task)
    site.register(of_file(task), hook.url)
    assert orders(site) == []
    site.report(task, STARTED)
    assert site.jobs == ["deliver"]
    notify_observers(site.rt)
    assert [order.order for order in orders(site)] == [Order.OBSERVE]


def test_the_end_of_a_task_is_the_end_of_its_observers(site: Site, hook: Hook) -> None:
    task = site.task()
    event = site.register(of_file(task), hook.url)
    with recording(site.rt):
        body = {"cause": Cause.INPUT_INVALID.value}
        report(site.rt, site.group.id, task.id, 1, 1, ReportKind.STARTED, executer=None)
        report(site.rt, site.group.id, task.id, 1, 2, ReportKind.FINISHED, **body)
        until(lambda: site.event(event)["state"] == "over")
    assert site.request(of_file(task), hook.url).status_code == 422
