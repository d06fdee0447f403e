"""What can be registered, by whom, and where webhooks may go."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from scheduler.services.notifications.deliver import deliver_due
from scheduler.services.notifications.register import MAX_OPEN_EVENTS
from scheduler.store.engine import migrate
from scheduler.store.notification_models import Registration
from simherd.contract.lifecycle import Status
from tests.support.events import Site, of_file, of_group, of_task, serving
from tests.support.hooks import hook_server
from tests.support.runtime import make_runtime

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from scheduler.wiring import Runtime
    from tests.support.hooks import Hook


@pytest.fixture
def hook() -> Iterator[Hook]:
    with hook_server() as made:
        yield made


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the server keeps everything."""
    made = tmp_path_factory.mktemp("events")
    migrate(f"sqlite:///{made / 'test.db'}")
    return made


@pytest.fixture(scope="module")
def closed(redis_url: str, folder: Path) -> Runtime:
    """Parts whose webhooks reach the internet alone."""
    return make_runtime(f"sqlite:///{folder / 'test.db'}", redis_url, folder)[0]


@pytest.fixture(scope="module")
def served(redis_url: str, folder: Path) -> Iterator[tuple[Runtime, str]]:
    """Parts on the same database, whose webhooks reach this machine, too."""
    url = f"sqlite:///{folder / 'test.db'}"
    rt = make_runtime(url, redis_url, folder, outbound_allow="127.0.0.0/8")[0]
    with serving(rt) as url:
        yield rt, url


@pytest.fixture(scope="module")
def inside(closed: Runtime) -> Iterator[Site]:
    with serving(closed) as url:
        yield Site(closed, url)


@pytest.fixture
def site(served: tuple[Runtime, str]) -> Site:
    return Site(*served)


@pytest.mark.fault("B15")
def test_endless_responses_are_cut(site: Site) -> None:
    """B15."""
    with hook_server() as flood, hook_server() as drip, hook_server() as silence:
        flood.manner = flood.answers_without_end
        drip.manner = drip.answers_byte_by_byte
        silence.manner = silence.answers_never
        task = site.task(status=Status.FAILED.value)
        hooks = (flood, drip, silence)
        events = [site.register(of_task(task, "task_failed"), h.url) for h in hooks]
        assert site.deliver() == 3
        for hook in hooks:
            assert hook.cut.wait(60)
    errors = [site.event(event)["deliveries"][0]["last_error"] for event in events]
    assert errors[0] is None
    assert errors[1] == errors[2] == "The webhook did not answer within 5 s."


@pytest.mark.fault("B14")
def test_redirects_are_not_followed(site: Site, hook: Hook) -> None:
    """B14."""
    with hook_server() as inside:
        hook.status, hook.location = 302, inside.url
        task = site.task(status=Status.FAILED.value)
        event = site.register(of_task(task, "task_failed"), hook.url)
        site.deliver()
        assert inside.calls == []
    error = site.event(event)["deliveries"][0]["last_error"]
    assert error == "The webhook returned 302; redirects are not followed."


@pytest.mark.fault("B14")
@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254/latest",
        "http://localhost/",
        "http://[::ffff:10.0.0.1]/",
        "http://2130706433/",
        "http://10.1.2.3/",
        "ftp://example.org/",
        "http://user:password@example.org/",
        "http://example.org/\r\nX: y",
        "nonsense",
    ],
)
def test_a_webhook_that_leads_inside_is_refused(inside: Site, url: str) -> None:
    """B14."""
    refused = inside.request(of_task(inside.task()), url)
    assert refused.status_code == 422
    assert refused.json()["detail"].startswith("action.webhook_url: ")
    assert inside.api.get("/events/").json() == []


@pytest.mark.fault("B14")
def test_a_name_that_leads_inside_later_gets_no_request(
    site: Site, closed: Runtime, hook: Hook
) -> None:
    """B14."""
    event = site.register(of_task(site.task(status=Status.FAILED.value), "task_failed"), hook.url)
    assert deliver_due(closed, time.time()) == 1
    assert hook.calls == []
    error = site.event(event)["deliveries"][0]["last_error"]
    assert "not on the public internet" in error


@pytest.mark.parametrize(
    ("trigger", "word"),
    [
        ({"trigger_type": "credits", "trigger": "credits_exhausted"}, "no credits"),
        ({"trigger_type": "task", "trigger": "task_exploded"}, "trigger"),
        ({"trigger_type": "task", "trigger": "task_failed", "more": 1}, "more"),
        ({"trigger_type": "weather"}, "trigger_type"),
        ("../x", "'..'"),
        ("/etc/passwd", "relative"),
        ("a\r\nb", "control"),
        (("out.txt", "("), "not a regular expression"),
        (("out.txt", "a" * 513), "513 characters"),
        (("out.txt", "()" * 33), "33 groups"),
        (("out.txt", "a\0b"), "regex"),
        ({"trigger_type": "task", "trigger": "task_failed", "task_id": "a\0"}, "task_id"),
        ({"trigger_type": "observer", "trigger": "file_regex_observer", "file_path": "a"}, "regex"),
    ],
)
def test_what_cannot_be_is_refused_by_name(
    site: Site, hook: Hook, trigger: dict[str, Any] | str | tuple[str, str], word: str
) -> None:
    task = site.task()
    if isinstance(trigger, str):
        asked: dict[str, Any] = of_file(task, trigger)
    elif isinstance(trigger, tuple):
        asked = of_file(task, *trigger)
    else:
        asked = {"task_id": task.id, **trigger}
    refused = site.request(asked, hook.url)
    # 400: what no JSON of ours may hold, whatever the field.
    assert refused.status_code == (400 if "has a NUL" in refused.text else 422), refused.text
    assert word in refused.json()["detail"]


@pytest.mark.conforms("GET /events/", "GET /events/{event_id}", "DELETE /events/{event_id}")
def test_a_user_cannot_see_objects_of_another(site: Site, hook: Hook) -> None:
    task, other = site.task(), site.user()
    event = site.register(of_task(task), hook.url)["event_id"]
    action = {"action_type": "webhook", "webhook_url": hook.url}
    for trigger in (of_task(task), of_group(site, "machine_group_terminated"), of_file(task)):
        asked = other.post("/events/", json={"trigger": trigger, "action": action})
        assert asked.status_code == 404
    for path in (f"/events/{event}", f"/v1/events/{event}"):
        assert other.get(path).status_code == 404
    assert other.delete(f"/events/{event}").status_code == 404
    assert other.get("/events/").json() == other.get("/v1/events").json() == []
    assert site.api.delete(f"/events/{event}").status_code == 204
    assert site.api.get(f"/v1/events/{event}").status_code == 404


@pytest.mark.conforms("7.23", "GET /events/")
def test_lists_have_exactly_the_contracts_keys(site: Site, hook: Hook) -> None:
    task = site.task()
    asked = [
        of_task(task),
        of_group(site, "machine_group_terminated"),
        of_file(task),
        of_file(task, "a/log.txt", "x"),
    ]
    made = [site.register(trigger, hook.url) for trigger in asked]
    rows = {row["event_id"]: row for row in site.api.get("/events/").json()}
    assert [sorted(rows[event["event_id"]]["trigger"]) for event in made] == [
        ["task_id", "trigger_type"],
        ["machine_group_id", "trigger_type"],
        ["file_path", "observer_id", "observer_type", "task_id", "trigger_type"],
        ["file_path", "observer_id", "observer_type", "regex", "task_id", "trigger_type"],
    ]
    for row in rows.values():
        assert sorted(row) == ["action", "event_id", "trigger"]
        assert row["action"] == {"action_type": "webhook", "webhook_url": hook.url}


def test_a_user_has_so_many_open(site: Site, hook: Hook) -> None:
    running, failed = site.task(), site.task(status=Status.FAILED.value)
    with site.rt.store.write() as session:
        for number in range(MAX_OPEN_EVENTS - 1):
            session.add(
                Registration(
                    id=f"{running.id}-{number}",
                    user_id=site.group.user_id,
                    trigger_type="task",
                    trigger="task_failed",
                    task_id=running.id,
                    action_type="webhook",
                    target=hook.url,
                    state="waiting",
                    created_at=0.0,
                )
            )
    site.register(of_task(failed, "task_failed"), hook.url)
    refused = site.request(of_task(failed, "task_failed"), hook.url)
    assert refused.status_code == 403
    assert "100 are allowed" in refused.json()["detail"]
    site.deliver()
    site.register(of_task(failed, "task_failed"), hook.url)
