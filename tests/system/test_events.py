"""Events of a whole Simherd: from a running simulation to a webhook, by each of the clients."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from simherd.events import verify_signature
from tests.support.hooks import hook_server
from tests.support.waits import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.env import Env
    from tests.support.hooks import Hook

pytestmark = pytest.mark.slow

#: Writes a line when it is told to, and ends.
SLOW = ["sh -c 'until [ -e go ]; do sleep 0.05; done; echo residual 0.25 > log.txt; sleep 600'"]


@pytest.fixture
def hook() -> Iterator[Hook]:
    with hook_server() as made:
        yield made


def seen_by(env: Env, folder: Path, module: str, script: str) -> dict[str, Any]:
    """What a script puts into its dictionary `seen`."""
    whole = f"import json\nimport {module}\nseen = {{}}\n{script}\nprint('SEEN', json.dumps(seen))"
    found: dict[str, Any] = json.loads(env.python(whole, folder).rpartition("SEEN ")[2])
    return found


def work_of(env: Env, task_id: str) -> Path:
    """The work folder of a task that computes."""
    (found,) = (env.data / "machines").glob(f"*/attempts/{task_id}*/work")
    return found


@pytest.mark.conforms("events.register", "events.get", "events.list_events", "events.remove")
def test_a_running_simulation_calls_by_way_of_our_client(
    env: Env, hook: Hook, tmp_path: Path
) -> None:
    task_id = env.submit(*SLOW)
    env.wait_for(task_id, "computation-started")
    script = f"""
from simherd import events
hook = events.WebhookNotification("{hook.url}")
started = events.register(events.TaskStarted("{task_id}"), hook)
regex = events.register(
    events.ObserverFileRegex("{task_id}", "log.txt", "residual (?P<r>[0-9.]+)"), hook)
gone = events.register(events.TaskFailed("{task_id}"), hook)
events.remove(gone.id)
seen.update(secrets=[started.secret, regex.secret], ids=[started.id, regex.id],
            listed=[e.id for e in events.list_events()], state=events.get(regex.id).state)
"""
    seen = seen_by(env, tmp_path, "simherd", script)
    assert set(seen["ids"]) <= set(seen["listed"])
    assert seen["state"] == "waiting"
    until(lambda: hook.calls, what="the call that it started")
    (work_of(env, task_id) / "go").touch()
    until(lambda: len(hook.calls) == 2, what="the call of the observer")
    for call, secret in zip(hook.calls, seen["secrets"], strict=True):
        assert verify_signature(secret, call.headers, call.body)
    assert hook.calls[1].json["captured"]["named"] == {"r": "0.25"}
    env.api.post(f"/tasks/{task_id}/kill")
    env.wait(task_id)


@pytest.mark.conforms("7.8", "7.21", "7.23", "7.26", face="inductiva")
@pytest.mark.conforms(
    *("events.register", "events.list_events", "events.get", "events.remove"), face="inductiva"
)
@pytest.mark.conforms(
    *("POST /events/", "GET /events/", "GET /events/{event_id}", "DELETE /events/{event_id}"),
    face="inductiva",
)
def test_the_published_client_registers_lists_gets_and_removes(
    env: Env, hook: Hook, tmp_path: Path
) -> None:
    task_id = env.submit("true")
    script = f"""
import contextlib, io
from inductiva import events
from inductiva.events.actions import WebhookNotification
from inductiva.events.triggers import ObserverFileExists, ObserverFileRegex
hook = WebhookNotification(webhook_url="{hook.url}")
made = events.register(events.TaskOutputUploaded(task_id="{task_id}"), hook)
def printed(call, *arguments):
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        call(*arguments)
    return out.getvalue()
seen.update(id=made["event_id"], listed=printed(events.list_events),
            got=printed(events.get, made["event_id"]),
            removed=printed(events.remove, made["event_id"]),
            after=printed(events.list_events))
"""
    seen = seen_by(env, tmp_path, "inductiva", script)
    assert f"TriggerTaskInfo(type=task, task_id={task_id})" in seen["got"]
    assert hook.url in seen["got"]
    assert seen["id"] in seen["listed"]
    assert "removed" in seen["removed"]
    assert seen["id"] not in seen["after"]


def test_the_published_clients_observers_are_taken(env: Env, hook: Hook, tmp_path: Path) -> None:
    task_id = env.submit(*SLOW)
    script = f"""
from inductiva import events
from inductiva.events.actions import WebhookNotification
from inductiva.events.triggers import ObserverFileExists, ObserverFileRegex
hook = WebhookNotification(webhook_url="{hook.url}")
for trigger in (ObserverFileExists(task_id="{task_id}", file_path="log.txt"),
                ObserverFileRegex(task_id="{task_id}", file_path="log.txt", regex="0[.]25")):
    events.register(trigger, hook)
events.list_events()
"""
    seen_by(env, tmp_path, "inductiva", script)
    env.wait_for(task_id, "computation-started")
    (work_of(env, task_id) / "go").touch()
    until(lambda: len(hook.calls) == 2, what="both calls")
    assert {c.json["trigger"] for c in hook.calls} == {
        "file_exists_observer",
        "file_regex_observer",
    }
    env.api.post(f"/tasks/{task_id}/kill")
    env.wait(task_id)


@pytest.mark.conforms("events list", "events register", "events info", "events remove")
def test_the_command_line_does_all_of_it(env: Env, hook: Hook) -> None:
    task_id = env.submit("true")
    env.wait(task_id)
    webhook = ("--webhook", hook.url)
    made = env.cli("events", "register", "task_output_uploaded", task_id, *webhook, "--json")
    assert made.returncode == 0, made.stderr
    event = json.loads(made.stdout)
    assert event["secret"].startswith("whsec_")
    until(lambda: hook.calls, what="the call")

    def shown() -> Any:
        return json.loads(env.cli("events", "info", event["event_id"], "--json").stdout)

    until(lambda: shown()["state"] == "delivered", what="the delivery")
    assert "delivered" in env.cli("events", "info", event["event_id"]).stdout
    assert event["event_id"] in env.cli("events", "list").stdout
    assert env.cli("events", "remove", event["event_id"]).returncode != 0
    assert env.cli("events", "remove", "-y", event["event_id"]).returncode == 0
    listed = json.loads(env.cli("events", "list", "--json").stdout)
    assert event["event_id"] not in [e["event_id"] for e in listed]
    group = env.cli("events", "register", "machine_group_terminated", "local", *webhook, "--json")
    of = json.loads(group.stdout)
    assert of["trigger"]["machine_group_id"] == env.api.get("/compute/group/local").json()["id"]
    env.api.delete(f"/events/{of['event_id']}")
    wrong = env.cli("events", "register", "file_exists_observer", task_id, *webhook)
    assert wrong.returncode == 1
    assert "--file" in wrong.stderr
