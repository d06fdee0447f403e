"""The snippets of the guides run, with only the import changed, and by the published client too."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

import simherd
from scheduler.services.accounts.users import create_key, create_user
from scheduler.store.engine import Store, open_engine
from simherd import resources, simulators, tasks
from tests.support.contract_rows import PUBLISHED, ROWS
from tests.support.env import zipped
from tests.support.snippets import SNIPPETS
from tests.support.terminal import Terminal
from tests.support.web import web_server
from tests.system.test_inductiva_account import COMMANDS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.env import Env
    from tests.support.snippets import Snippet

pytestmark = pytest.mark.slow

#: Runs snippets with the published client. A task that waits is made when it is needed: another
#: snippet kills all that do.
SCRIPT = """
import json, os, traceback
import inductiva
by_name = inductiva.resources.machine_groups.get_by_name
simulator = inductiva.simulators.CustomImage("docker://debian:bookworm")
seen = {}
for name, kind, task_id, text, then in json.loads(os.environ["GIVEN"]):
    if kind == "waiting":
        task = simulator.run("case", commands=["true"], on=by_name("none"))
    else:
        task = inductiva.tasks.Task(task_id)
    names = {"inductiva": inductiva, "Task": inductiva.tasks.Task, "task": task,
             "simulator": simulator, "machine_group": by_name("local")}
    try:
        exec(text, names)
        exec(then, names)
        seen[name] = ""
    except Exception:
        seen[name] = traceback.format_exc()
print("SEEN " + json.dumps(seen))
"""


@pytest.fixture(scope="module")
def guest(env: Env) -> Iterator[Env]:
    """The same Simherd, for a user who has no tasks yet, with a group `local` and an empty one."""
    store = Store(open_engine(f"sqlite:///{env.data / 'simherd.db'}"))
    with store.write() as session:
        user = create_user(session, "guest", "guest@localhost")
        # Only operators may have a group with the reserved name `local`.
        user.is_operator = True
        key = create_key(session, user.id, "test")
    own = env.as_user(key)
    own.start_group("local", max_idle_time=None)
    empty = {"machine_type": "local", "name": "none", "provider": "external", "is_elastic": True}
    made = own.api.post("/compute/group", json={**empty, "min_vms": 0, "max_vms": 1}).json()
    own.api.post("/compute/group/start", params={"machine_group_id": made["id"]})
    yield own
    for group in own.api.get("/compute/groups").json():
        own.api.delete("/compute/group", params={"machine_group_id": group["id"]})
    own.api.close()


@pytest.fixture(scope="module")
def host() -> Iterator[str]:
    """Where the example inputs are had from."""
    with web_server() as web:
        for name in ("splishsplash-input-example", "reef3d-input-example"):
            web.files[f"{name}.zip"] = zipped({"config.json": "{}"}, f"{name}/")
        yield f"{web.url}/files/"


@pytest.fixture(scope="module")
def ended(guest: Env) -> str:
    task_id = guest.submit("cp in.txt out.txt", files={"in.txt": "data"})
    guest.wait(task_id)
    return task_id


def make(guest: Env, kind: str, ended: str) -> str:
    """The id of a task of this kind: `ended`, `quick`, `busy`, `waiting`, or none."""
    if kind in {"", "ended"}:
        return ended
    if kind == "waiting":
        return guest.submit("true", group="none")
    task_id = guest.submit("true" if kind == "quick" else "sleep 600")
    if kind == "busy":
        guest.wait_for(task_id, "computation-started")
    return task_id


def shown(face: str) -> list[Any]:
    """The snippets that `face` can run, each of which shows its row."""
    return [
        pytest.param(s, id=s.name, marks=pytest.mark.conforms(s.name, *s.also, face=face))
        for s in SNIPPETS
        if not ROWS[s.name].cannot(face)
    ]


def make_case(folder: Path) -> None:
    (folder / "case").mkdir()
    (folder / "case" / "in.txt").write_text("data")


@pytest.mark.parametrize("snippet", shown("ours"))
def test_a_snippet_runs_with_only_the_import_changed(
    guest: Env,
    host: str,
    ended: str,
    snippet: Snippet,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SIMHERD_API_URL", guest.url)
    monkeypatch.setenv("SIMHERD_API_KEY", guest.key)
    monkeypatch.setattr("simherd.config._output_dir", "simherd_output")
    monkeypatch.chdir(tmp_path)
    make_case(tmp_path)
    task_id = make(guest, snippet.task, ended)
    names = {
        "inductiva": simherd,
        "Task": tasks.Task,
        "task": tasks.Task(task_id),
        "simulator": simulators.CustomImage("docker://debian:bookworm"),
        "machine_group": resources.get_by_name("local"),
    }
    text = snippet.text_for(task_id, host)
    exec(text.replace("import inductiva", "import simherd as inductiva"), names)
    exec(snippet.then, names)


@pytest.fixture(scope="module")
def published(
    guest: Env, host: str, ended: str, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    """Snippet → what went wrong with it, all by one process: it takes seconds to start."""
    folder = tmp_path_factory.mktemp("published")
    make_case(folder)
    given = []
    for snippet in SNIPPETS:
        if ROWS[snippet.name].cannot(PUBLISHED):
            continue
        # The published client makes those that wait.
        kind = snippet.task.replace("waiting", "")
        task_id = make(guest, kind, ended)
        text = snippet.text_for(task_id, host)
        given.append((snippet.name, snippet.task, task_id, text, snippet.then))
    out = guest.python(SCRIPT, folder, GIVEN=json.dumps(given))
    found: dict[str, str] = json.loads(out.rpartition("SEEN ")[2])
    return found


@pytest.mark.parametrize("snippet", shown(PUBLISHED))
def test_a_snippet_runs_as_it_is(published: dict[str, str], snippet: Snippet) -> None:
    assert published[snippet.name] == ""


@pytest.mark.conforms("tasks guide: tasks list", "tasks guide: tasks kill")
def test_its_commands_run(guest: Env, ended: str) -> None:
    told = {**guest.environment, **guest.connection}
    code, shown = Terminal(["tasks", "list", "-n", "3"], guest.folder, told, columns=200).ends()
    assert code == 0, shown
    assert re.search(r"ID +SIMULATOR +STATUS +SUBMITTED +STARTED +COMPUTATION TIME", shown)
    busy = make(guest, "busy", ended)
    asking = Terminal(["tasks", "kill", busy], guest.folder, told)
    asking.shows("[y/N]")
    asking.type("y\n")
    code, shown = asking.ends()
    assert code == 0, shown
    assert "You are about to kill" in shown
    assert guest.wait(busy)["status"] == "killed"


@pytest.mark.conforms("tasks guide: tasks list", "tasks guide: tasks kill", face=PUBLISHED)
def test_its_commands_run_as_they_are(guest: Env, ended: str, tmp_path: Path) -> None:
    busy = make(guest, "busy", ended)
    script = f"""{COMMANDS}
import io
command("list", "tasks", "list", "-n", "3")
sys.stdin = io.StringIO("y\\n")
command("kill", "tasks", "kill", "{busy}")
"""
    out = guest.python(script, tmp_path)
    found = re.findall(r"@@(\w+)@@(.*?)@@exit (.*?)@@", out, re.DOTALL)
    said = {label: text for label, text, code in found if code == "0"}
    assert "SIMULATOR" in said["list"]
    assert busy in said["list"]
    assert "You are about to kill the following tasks:" in said["kill"]
    assert guest.wait(busy)["status"] == "killed"
