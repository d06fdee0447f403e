"""How the command line behaves on a terminal, in a pipe, and where nobody can be asked."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.support.terminal import Terminal
from tests.support.waits import until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.env import Env

# Each command is a separate process.
pytestmark = pytest.mark.slow

COLOUR = re.compile(r"\x1b\[[0-9;]*m")
#: Its characters take two columns of a terminal each.
WIDE = "速度と圧力の研究プロジェクト" * 4


def on_terminal(env: Env, *words: str, columns: int = 80, **more: str) -> Terminal:
    told = {k: v for k, v in env.environment.items() if k != "NO_COLOR"}
    return Terminal(list(words), env.folder, {**told, **env.connection, **more}, columns)


def columns_of(line: str) -> int:
    return sum(2 if ord(c) > 0x2E7F else 1 for c in line)


@pytest.fixture(scope="module")
def task_id(env: Env) -> str:
    """A task that ended well, of a simulator and in a project with long names."""
    done = env.submit("true", project=WIDE, simulator_name_alias="simulator-" * 8)
    env.wait(done)
    return done


@pytest.mark.conforms("tasks list")
def test_a_table_fits_the_terminal(env: Env, task_id: str) -> None:
    code, shown = on_terminal(env, "tasks", "list", "-a").ends()
    assert code == 0, shown
    lines = COLOUR.sub("", shown).splitlines()
    assert max(map(columns_of, lines)) <= 80
    assert sum(task_id in line for line in lines) == 1
    assert "…" not in shown  # what is too wide is folded
    assert "\x1b[1m" in shown  # the headings are bold
    assert "\x1b[32mSuccess" in shown


@pytest.mark.conforms("projects list")
def test_wide_characters_stay_in_line(env: Env, task_id: str) -> None:
    lines = COLOUR.sub("", on_terminal(env, "projects", "ls", columns=200).ends()[1]).splitlines()
    (row,) = [line for line in lines if WIDE in line]
    head = next(line for line in lines if line.startswith("NAME"))
    start = columns_of(row[: row.index(WIDE) + len(WIDE)])
    assert head.index("TASKS") == start + 2


#: What a simulation prints to take over a terminal: title, screen, direction of text.
HOSTILE = "\x1b]0;title\x07\x1b[2J\u202e10 %\r20 %\n"
ESCAPED = "\\x1b]0;title\\x07\\x1b[2J\\u202e10 %\r\n20 %\r\n"
PRINTS = r"""
printf '\033]0;title\007\033[2J\342\200\25610 %%\r20 %%\n' > log
cat log
sleep 600
"""


def piped(env: Env, *words: str) -> bytes:
    """What a command writes to a pipe, byte by byte."""
    argv = [sys.executable, "-m", "simherd.cli.main", *words]
    told = {**env.environment, **env.connection}
    return subprocess.run(argv, env=told, capture_output=True, timeout=60, check=False).stdout


@pytest.mark.fault("B16")
def test_what_a_simulation_prints_cannot_steer_the_terminal(env: Env) -> None:
    done = env.submit("sh print.sh", files={"print.sh": PRINTS})
    until(lambda: "log" in env.cli("tasks", "list-files", done).stdout, what="its files")
    for words in (("tasks", "tail", done, "stdout.txt"), ("tasks", "fetch", done, "log", "-")):
        _, shown = on_terminal(env, *words).ends()
        assert ESCAPED in shown
        assert "\x1b" not in shown
        assert HOSTILE.encode() in piped(env, *words)
    assert (
        HOSTILE.replace("\n", "\r\n")
        in on_terminal(env, "tasks", "tail", "--raw", done, "stdout.txt").ends()[1]
    )
    env.api.post(f"/tasks/{done}/kill")
    env.wait(done)
    _, logs = on_terminal(env, "logs", done).ends()
    assert ESCAPED in logs
    assert "\x1b" not in logs
    _, raw = on_terminal(env, "logs", "--raw", done).ends()
    assert HOSTILE.replace("\n", "\r\n") in raw
    assert HOSTILE.encode() in piped(env, "logs", done)


def test_what_is_piped_is_whole_and_plain(env: Env, task_id: str) -> None:
    told = {"NO_COLOR": ""}
    out = env.cli("tasks", "list", "-i", task_id, more=told).stdout
    assert "simulator-" * 8 in out
    assert "\x1b" not in out


def test_no_color_means_none(env: Env, task_id: str) -> None:
    code, shown = on_terminal(env, "tasks", "list", NO_COLOR="1").ends()
    assert code == 0, shown
    assert "\x1b" not in shown


#: Row of the conformance page → a command that shows it.
SHOWN = {
    "quotas list": ("quotas", "ls"),
    "user info": ("user", "info"),
    "simulators list": ("simulators", "ls", "--dev"),
    "resources list": ("resources", "ls"),
    "resources info": ("resources", "info", "local"),
    "resources available": ("resources", "available", "--family", "c2", "n2", "-s"),
    "resources cost": ("resources", "cost", "c2-standard-4", "-n", "2"),
    "projects list": ("projects", "list"),
}


@pytest.mark.parametrize(
    "words",
    [
        *(pytest.param(w, marks=pytest.mark.conforms(row)) for row, w in SHOWN.items()),
        ("projects", "info", "default"),
        ("costs",),
    ],
)
def test_all_that_is_shown_is_data_too(env: Env, words: tuple[str, ...]) -> None:
    plain, data = env.cli(*words), env.cli(*words, "--json")
    assert (plain.returncode, data.returncode) == (0, 0), plain.stderr + data.stderr
    assert plain.stdout.strip()
    assert json.loads(data.stdout)


def test_watch_redraws_until_ctrl_c(env: Env) -> None:
    terminal = on_terminal(env, "quotas", "list", "--watch", "0.1")
    terminal.shows("max_vcpus", times=3)
    terminal.type("\x03")
    code, shown = terminal.ends()
    assert code == 0, shown
    assert shown.count("\x1b[H\x1b[J") >= 3
    assert "Traceback" not in shown


def test_watch_in_a_pipe_prints_again_and_again(env: Env) -> None:
    argv = [sys.executable, "-m", "simherd.cli.main", "quotas", "list", "-w", "0.1"]
    told = {**env.environment, **env.connection}
    with (env.folder / "watched").open("w") as out:
        process = subprocess.Popen(argv, env=told, stdin=subprocess.DEVNULL, stdout=out)
    until(lambda: (env.folder / "watched").read_text().count("\n---\n") >= 2, what="two separators")
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 0
    assert "\x1b" not in (env.folder / "watched").read_text()


def test_ctrl_c_is_130(env: Env) -> None:
    terminal = on_terminal(env, "tasks", "wait", env.submit("sleep 600"))
    terminal.shows("In Progress")
    terminal.type("\x03")
    code, shown = terminal.ends()
    assert code == 130, shown
    assert "Interrupted." in shown
    assert "Traceback" not in shown


@pytest.mark.conforms("projects delete", "resources terminate", "tasks kill")
def test_nothing_is_lost_without_a_yes(env: Env) -> None:
    env.api.post("/projects", json={"name": "to go"})
    for words in (
        ("projects", "delete", "to go"),
        ("resources", "terminate", "local"),
        ("tasks", "kill", env.submit("sleep 600")),
    ):
        unasked = env.cli(*words)
        assert unasked.returncode == 2
        assert "say it with --yes" in unasked.stderr
    terminal = on_terminal(env, "projects", "delete", "to go")
    terminal.shows("[y/N]")
    terminal.type("n\n")
    assert terminal.ends()[0] == 1
    assert env.api.get("/projects/to%20go").status_code == 200
    terminal = on_terminal(env, "projects", "delete", "to go")
    terminal.shows("[y/N]")
    terminal.type("y\n")
    assert terminal.ends()[0] == 0
    assert env.api.get("/projects/to%20go").status_code == 404


@pytest.mark.conforms("tasks kill", "tasks list")
def test_kill_all_kills_what_has_not_ended(env: Env) -> None:
    busy = [env.submit("sleep 600") for _ in range(2)]
    assert env.cli("tasks", "kill").returncode == 2
    assert env.cli("tasks", "kill", "--all", busy[0]).returncode == 2
    done = env.cli("tasks", "kill", "--all", "-y", "-w", "60")
    assert done.returncode == 0, done.stderr
    listed = json.loads(env.cli("tasks", "list", "--json", "--id", *busy).stdout)
    assert [t["status"] for t in listed] == ["killed", "killed"]
    again = env.cli("tasks", "kill", "--all", "-y")
    assert again.returncode == 0
    assert "no tasks to kill" in again.stdout


@pytest.mark.conforms("tasks download", "projects download")
def test_several_tasks_and_files_are_downloaded(env: Env, tmp_path: Path) -> None:
    ids = [
        env.submit(f"sh -c 'echo {n} > a.txt; echo > b.txt'", files={"in.txt": "i"}, project="dl")
        for n in range(2)
    ]
    for task in ids:
        env.wait(task)
    done = env.cli(
        *("tasks", "download", *ids, "--filenames", "a.txt", "b.txt", "--dir", "one"),
        folder=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    names = sorted(f.name for f in (tmp_path / "one").rglob("*.txt"))
    assert names == ["a.txt", "a.txt", "b.txt", "b.txt"]
    both = env.cli("tasks", "dl", ids[0], "-i", "-o", "-d", "both", folder=tmp_path)
    assert both.returncode == 0, both.stderr
    assert list((tmp_path / "both").rglob("in.txt"))
    assert list((tmp_path / "both").rglob("a.txt"))
    std = env.cli("projects", "download", "dl", "--std", "--output-dir", "std", folder=tmp_path)
    assert std.returncode == 0, std.stderr
    assert len(list((tmp_path / "std").rglob("stdout.txt"))) == 2
    assert not list((tmp_path / "std").rglob("a.txt"))
    missing = env.cli("projects", "download", "nothing")
    assert missing.returncode == 1
    assert "no project 'nothing'" in missing.stderr


@pytest.mark.conforms("completion")
def test_the_shell_completes_ids_and_names(env: Env, task_id: str) -> None:
    for shell in ("bash", "zsh", "fish"):
        script = env.cli("completion", shell)
        assert script.returncode == 0, script.stderr
        assert "_SIMHERD_COMPLETE" in script.stdout

    def completed(words: str, **more: str) -> str:
        count = len(words.split()) - (not words.endswith(" "))
        told = {"COMP_WORDS": words, "COMP_CWORD": str(count), "_SIMHERD_COMPLETE": "bash_complete"}
        done = env.cli(more={**told, **more})
        assert done.stderr == ""
        return done.stdout.strip()

    for words, known in (
        (f"simherd tasks info {task_id[:6]}", f"plain,{task_id}"),
        ("simherd resources info lo", "plain,local"),
        ("simherd resources cost c2", "plain,c2-standard-4"),
        ("simherd projects info ", f"plain,{WIDE}"),
    ):
        # A server that takes its time is not waited for: whoever types goes on.
        until(lambda: known in completed(words), what=known)  # noqa: B023
    assert completed("simherd tasks info x", SIMHERD_API_URL="http://127.0.0.1:9") == ""
    assert completed("simherd tasks info x", SIMHERD_API_KEY="wrong") == ""


@pytest.mark.conforms("task-runner launch", "task-runner remove")
def test_the_task_runner_points_to_what_there_is(env: Env) -> None:
    for words in (("launch", "mine", "--detach"), ("remove",)):
        done = env.cli("task-runner", *words)
        assert done.returncode == 1
        assert "simherd resources invite" in done.stderr


@pytest.mark.conforms("auth login", "auth logout")
def test_login_takes_the_options_of_other_scripts(env: Env, tmp_path: Path) -> None:
    own = {"XDG_CONFIG_HOME": str(tmp_path)}
    words = ("auth", "login", "--private", "--no-examples", "--url", env.url)
    assert env.cli(*words, more=own).returncode == 0
    assert (tmp_path / "simherd" / "connection.env").exists()
    assert env.cli("auth", "logout", more=own).returncode == 0


def test_no_error_is_a_traceback(env: Env, tmp_path: Path) -> None:
    (tmp_path / "simherd").write_text("a file where a folder should be")
    done = env.cli("auth", "login", "--url", env.url, more={"XDG_CONFIG_HOME": str(tmp_path)})
    assert done.returncode == 1
    assert done.stderr.startswith("Error: ")
    assert "Traceback" not in done.stderr
    version = env.cli("-V")
    assert version.returncode == 0
    assert "version" in version.stdout
