"""Events happen in SQL, once, and are delivered to real servers; on both databases."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest

from scheduler.services.notifications.deliver import DELIVERY_LONGEST_WAIT_S, DELIVERY_TRIES
from scheduler.store.notification_models import Registration
from scheduler.store.transitions import change_status
from simherd.contract.cause import Cause
from simherd.contract.lifecycle import Status
from simherd.contract.reports import ReportKind
from simherd.events import verify_signature
from tests.support.events import COMPUTED, STARTED, STORED, Site, ended, of_task, serving
from tests.support.hooks import hook_server
from tests.support.runtime import make_runtime, recording, report
from tests.support.waits import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scheduler.store.engine import Store
    from scheduler.wiring import Runtime
    from tests.support.hooks import Hook


@pytest.fixture
def hook() -> Iterator[Hook]:
    with hook_server() as made:
        yield made


@pytest.fixture(scope="module")
def served(
    database_url: str, store: Store, redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Runtime, str]]:
    folder = tmp_path_factory.mktemp("events")
    rt = make_runtime(database_url, redis_url, folder, outbound_allow="127.0.0.0/8")[0]
    with serving(rt) as url:
        yield rt, url


@pytest.fixture
def site(served: tuple[Runtime, str]) -> Site:
    return Site(*served)


@pytest.mark.conforms("POST /events/")
def test_outputs_that_are_stored_call_the_webhook(site: Site, hook: Hook) -> None:
    task = site.task()
    event = site.register(of_task(task), hook.url)
    site.report(task, *COMPUTED, *STORED, ended(Cause.COMPLETED))
    assert site.jobs == ["deliver"]
    assert site.deliver() == 1
    (call,) = hook.calls
    shown = site.event(event)
    (delivery,) = shown["deliveries"]
    assert call.json == {
        "event_id": event["event_id"],
        "delivery_id": delivery["delivery_id"],
        "trigger": "task_output_uploaded",
        "at": "2023-11-14T22:13:26+00:00",
        "task_id": task.id,
        "status": "success",
        "attempt": 1,
    }
    assert (shown["state"], delivery["state"], delivery["tries"]) == ("delivered", "delivered", 1)
    assert "secret" not in shown
    assert verify_signature(event["secret"], call.headers, call.body)
    assert not verify_signature(event["secret"], call.headers, call.body + b" ")
    assert not verify_signature("whsec_other", call.headers, call.body)
    assert not verify_signature(event["secret"], call.headers, call.body, tolerance_s=-1)
    assert site.deliver() == 0


def test_each_trigger_waits_for_its_event(site: Site, hook: Hook) -> None:
    task = site.task()
    events = {
        name: site.register(of_task(task, name), f"{hook.url}/{name}")
        for name in ("task_started", "task_failed", "task_output_uploaded")
    }
    site.report(task, STARTED)
    site.deliver()
    assert [call.json["trigger"] for call in hook.calls] == ["task_started"]
    with recording(site.rt):
        body = ended(Cause.INPUT_INVALID)[1]
        report(site.rt, site.group.id, task.id, 1, 2, ReportKind.FINISHED, **body)
        until(lambda: site.event(events["task_failed"])["state"] != "waiting")
    site.deliver()
    assert {name: site.event(event)["state"] for name, event in events.items()} == {
        "task_started": "delivered",
        "task_failed": "delivered",
        "task_output_uploaded": "over",
    }
    assert hook.calls[1].json["status"] == "executer-failed"
    assert "never happened" in site.event(events["task_output_uploaded"])["state_detail"]


def test_another_attempt_is_not_an_end(site: Site, hook: Hook) -> None:
    task = site.task(resubmit=True)
    event = site.register(of_task(task, "task_failed"), hook.url)
    site.report(task, STARTED, ended(Cause.AGENT_STOPPED))
    assert site.event(event)["state"] == "waiting"
    assert site.deliver() == 0


def test_an_event_of_the_past_is_sent_at_once(site: Site, hook: Hook) -> None:
    task = site.task()
    site.report(task, *COMPUTED, *STORED, ended(Cause.COMPLETED))
    for trigger in ("task_started", "task_output_uploaded"):
        assert site.register(of_task(task, trigger), hook.url)["state"] == "delivering"
    site.deliver()
    assert len(hook.calls) == 2
    refused = site.request(of_task(task, "task_failed"), hook.url)
    assert refused.status_code == 422
    assert "can happen no more" in refused.json()["detail"]
    assert len(site.api.get("/events/").json()) == 2


def test_a_rolled_back_event_is_not_sent(site: Site, hook: Hook) -> None:
    task = site.task()
    event = site.register(of_task(task, "task_started"), hook.url)

    def start_and_break() -> None:
        with site.rt.store.write() as session:
            assert change_status(session, task.id, Status.STARTED, attempt=1, at=1.0)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        start_and_break()
    assert site.jobs == []
    assert (site.event(event)["state"], site.event(event)["deliveries"]) == ("waiting", [])
    assert site.deliver() == 0


def test_an_event_during_the_registration_is_sent_once(site: Site, hook: Hook) -> None:
    tasks = [site.task() for _ in range(10)]

    def start() -> None:
        for task in tasks:
            with site.rt.store.write() as session:
                assert change_status(session, task.id, Status.STARTED, attempt=1, at=1.0)

    starting = threading.Thread(target=start)
    starting.start()
    events = [site.register(of_task(task, "task_started"), hook.url) for task in tasks]
    starting.join()
    while site.deliver():
        pass
    assert sorted(c.json["event_id"] for c in hook.calls) == sorted(e["event_id"] for e in events)


def test_two_workers_send_once(site: Site, hook: Hook) -> None:
    task = site.task(status=Status.FAILED.value)
    for _ in range(10):
        site.register(of_task(task, "task_failed"), hook.url)
    counts: list[int] = []
    workers = [threading.Thread(target=lambda: counts.append(site.deliver())) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert sum(counts) == 10
    assert len({call.json["delivery_id"] for call in hook.calls}) == len(hook.calls) == 10


@pytest.mark.fault("B15")
def test_a_failing_webhook_is_tried_for_about_a_day_and_given_up(site: Site, hook: Hook) -> None:
    event = site.register(of_task(site.task(status=Status.FAILED.value), "task_failed"), hook.url)
    hook.status = 500
    now = first = time.time()
    while True:
        assert site.deliver(now) == 1
        (delivery,) = site.event(event)["deliveries"]
        if delivery["state"] != "waiting":
            break
        # Not before it is due.
        assert site.deliver(now + 40) == 0
        with site.rt.store.read() as session:
            row = session.get_one(Registration, event["event_id"])
            assert row.state == "delivering"
        now += DELIVERY_LONGEST_WAIT_S * 1.25
    assert (delivery["state"], delivery["tries"]) == ("given_up", DELIVERY_TRIES)
    assert delivery["last_error"] == "The webhook returned 500."
    shown = site.event(event)
    assert shown["state"] == "disabled"
    assert "after 14 tries" in shown["state_detail"]
    assert site.deliver(first + 10 * 86400) == 0
    assert len({call.body for call in hook.calls}) == 1


def test_a_webhook_that_comes_back_gets_its_call(site: Site, hook: Hook) -> None:
    event = site.register(of_task(site.task(status=Status.FAILED.value), "task_failed"), hook.url)
    hook.status = 503
    site.deliver()
    hook.status = 200
    assert site.deliver(time.time() + 80) == 1
    assert site.event(event)["state"] == "delivered"
    assert site.event(event)["deliveries"][0]["tries"] == 2
