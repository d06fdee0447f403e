"""The command line, as somebody types it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.env import Done, Env

# Each command is a separate process.
pytestmark = pytest.mark.slow

COMMANDS = ["up", "demo", "run", "tasks", "logs", "resources", "storage", "containers", "auth"]


def run(env: Env, *argv: str, options: tuple[str, ...] = ()) -> Done:
    return env.cli("run", "--image", "any", *options, "--", *argv)


def test_run_prints_the_id_and_wait_the_end(env: Env, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("data")
    made = run(env, "cat", "in.txt", options=("--input", str(tmp_path), "--ttl", "5m"))
    assert made.returncode == 0, made.stderr
    task_id = made.stdout.strip()
    waited = env.cli("tasks", "wait", task_id)
    assert waited.returncode == 0
    assert "data" in waited.stdout
    assert f"{task_id}  Success" in waited.stdout
    failing = run(env, "sh", "-c", "exit 4").stdout.strip()
    assert env.cli("tasks", "wait", "-q", failing).returncode == 1
    assert run(env, "false", options=("--wait",)).returncode == 1
    # Without `--` too, options of the command are the command's.
    assert env.cli("run", "--image", "any", "--wait", "ls", "-la").returncode == 0


def test_json_is_data(env: Env) -> None:
    done = run(env, "true", options=("--wait", "--json"))
    task = json.loads(done.stdout)
    assert task["status"] == "success"
    listed = json.loads(env.cli("tasks", "list", "--json", "-n", "1").stdout)
    assert [t["task_id"] for t in listed] == [task["task_id"]]
    shown = json.loads(env.cli("tasks", "info", "--json", task["task_id"]).stdout)
    assert shown["status_history"][-1]["status"] == "success"
    groups = json.loads(env.cli("resources", "list", "--json").stdout)
    assert "local" in [g["name"] for g in groups]
    types = json.loads(env.cli("resources", "available", "--json").stdout)
    assert {"machine_type", "price"} <= set(types[0])


@pytest.mark.conforms("tasks list", "tasks info", "resources available", "resources list")
def test_tables_are_for_people(env: Env) -> None:
    task_id = run(env, "echo", "hello there", options=("--wait",)).stdout.split()[0]
    assert task_id in env.cli("tasks", "list").stdout
    info = env.cli("tasks", "info", task_id).stdout
    assert "Success" in info
    assert "echo 'hello there'" in info
    assert "c2-standard-4" in env.cli("resources", "available", "--spot").stdout
    assert "started" in env.cli("resources", "list").stdout


@pytest.mark.conforms("logs")
def test_logs_show_both_streams_until_the_end(env: Env) -> None:
    task_id = run(env, "sh", "-c", "echo out; echo err 1>&2").stdout.strip()
    done = env.cli("logs", task_id)
    assert done.returncode == 0
    assert "out\n" in done.stdout
    assert "err\n" in done.stderr
    assert "\nerr\n" not in env.cli("logs", "--stdout", task_id).stdout


@pytest.mark.conforms("tasks kill")
def test_kill_asks_first(env: Env) -> None:
    task_id = run(env, "sleep", "600").stdout.strip()
    env.wait_for(task_id, "computation-started")
    refused = env.cli("tasks", "kill", task_id)
    assert refused.returncode != 0
    assert env.status(task_id) == "computation-started"
    done = env.cli("tasks", "kill", "-y", "--wait-timeout", "60", task_id)
    assert done.returncode == 0, done.stderr
    assert env.status(task_id) == "killed"
    assert env.cli("tasks", "kill", "-y", task_id).returncode == 1


@pytest.mark.conforms("tasks download")
def test_download_puts_files_into_the_given_folder(env: Env, tmp_path: Path) -> None:
    task_id = run(env, "sh", "-c", "echo 1 > a.txt", options=("--wait",)).stdout.split()[0]
    done = env.cli("tasks", "download", task_id, "--dir", "got", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "got" / task_id / "outputs" / "a.txt").read_text() == "1\n"
    missing = env.cli("tasks", "download", task_id, "-f", "b.txt", folder=tmp_path)
    assert missing.returncode == 1
    assert "filenames: 'b.txt'" in missing.stderr


@pytest.mark.conforms("resources start", "resources terminate")
def test_groups_start_and_terminate(env: Env) -> None:
    started = env.cli("resources", "start", "local", "--name", "cli-group", "--on-demand")
    assert started.returncode == 0, started.stderr
    assert "cli-group" in env.cli("resources", "list").stdout
    assert env.cli("resources", "terminate", "cli-group").returncode != 0  # nobody said yes
    assert env.cli("resources", "terminate", "-y", "cli-group").returncode == 0
    assert env.cli("resources", "terminate", "-y", "none").returncode == 1


@pytest.mark.conforms("auth login", "auth logout")
def test_login_keeps_only_a_key_that_works(env: Env, tmp_path: Path) -> None:
    own = {"XDG_CONFIG_HOME": str(tmp_path)}
    kept = tmp_path / "simherd" / "connection.env"
    wrong = env.cli("auth", "login", "--url", env.url, more={**own, "SIMHERD_API_KEY": "wrong"})
    assert wrong.returncode == 1
    assert not kept.exists()
    done = env.cli("auth", "login", "--url", env.url, more=own)
    assert done.returncode == 0, done.stderr
    assert kept.stat().st_mode & 0o077 == 0
    nothing = {"SIMHERD_API_URL": "", "SIMHERD_API_KEY": ""}
    assert env.cli("tasks", "list", more={**own, **nothing}).returncode == 0
    assert env.cli("auth", "logout", more=own).returncode == 0
    away = env.cli("tasks", "list", more={**own, **nothing})
    assert away.returncode == 1
    assert "simherd up" in away.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("tasks", "info", "0" * 25), 1, "there is no task"),
        (("tasks", "info", "../x"), 1, "task_id: '../x' is not a task id"),
        (("run", "--image", "i", "--ttl", "-1", "--", "true"), 1, "time_to_live: '-1'"),
        (("run", "--image", "i", "--on", "nope", "--", "true"), 1, "no machine group 'nope'"),
        (("run", "--image", "i", "--input", "nope", "--", "true"), 1, "no folder 'nope'"),
        (("run", "--image", "i"), 2, "Missing argument"),
        (("run", "--", "true"), 2, "Missing option"),
        (("run", "--image", "i", "--inptu", "x", "--", "true"), 2, "No such option"),
        (("tasks", "list", "-n", "0"), 2, "0 is not in the range"),
        (("nonsense",), 2, "No such command"),
        (("resources", "start", "pdp-11"), 1, "machine_type: 'pdp-11' is not known"),
    ],
)
def test_errors_are_sentences(env: Env, arguments: tuple[str, ...], code: int, words: str) -> None:
    done = env.cli(*arguments)
    assert done.returncode == code, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_help_loads_nothing_heavy(env: Env, tmp_path: Path) -> None:
    script = (
        "import sys; sys.argv = ['simherd', '--help']\n"
        "from simherd.cli.main import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print('HEAVY', {'httpx', 'rich', 'fastapi', 'redis', 'docker'} & set(sys.modules))"
    )
    out = env.python(script, tmp_path)
    assert all(f"  {name} " in out for name in COMMANDS)
    assert "HEAVY set()" in out
