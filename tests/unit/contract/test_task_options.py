"""The options of a task: read once, stored, and the same when they are read again."""

from __future__ import annotations

import json
from typing import Any

import pytest

from simherd.contract import task_options
from simherd.contract.attempt_spec import Command, DeadlineWarning
from simherd.contract.task_options import TaskOptions, as_sent

PLAIN: dict[str, Any] = {"commands": [{"cmd": "run 'a b'"}]}
FULL: dict[str, Any] = {
    "commands": [
        "plain",
        {
            "cmd": "solve case",
            "prompts": ["y", 1],
            "env": {"A": 1},
            "mpi_config": {"options": {"np": 4, "bind-to": "core", "oversubscribe": False}},
        },
    ],
    "env": {"B": True},
    "run_subprocess_dir": "./sub//dir",
    "warn_signal": "SIGUSR2",
    "warn_before_s": 5,
    "stop_grace_s": 7,
    "stall_after_s": 0,
    "network": True,
    "checkpoint": {"files": "*.cpt", "every_s": 9, "restore": "again"},
    "something_else": {"kept": [1]},
}


def test_everything_is_read() -> None:
    options = TaskOptions.read(FULL)
    flags = ("mpirun", "--np", "4", "--bind-to", "core")
    mpi = Command((*flags, "solve", "case"), ("y", "1"), {"A": "1"}, mpi=True)
    assert options.commands == (Command(("plain",)), mpi)
    assert options.env == {"B": "True"}
    assert options.run_dir == "sub/dir"
    assert options.warning == DeadlineWarning("SIGUSR2", 5)
    assert (options.stop_grace_s, options.stall_after_s) == (7, 0)
    assert options.network
    assert options.checkpoints is not None
    assert (options.checkpoints.files, options.checkpoints.every_s) == (("*.cpt",), 9)
    assert options.restore == (Command(("again",)),)


def test_missing_options_have_their_defaults() -> None:
    options = TaskOptions.read(PLAIN)
    assert options == TaskOptions((Command(("run", "a b")),), processes=(0,))
    assert options.warning == DeadlineWarning()


@pytest.mark.parametrize("sent", [PLAIN, FULL])
def test_stored_options_survive_a_round_trip(sent: dict[str, Any]) -> None:
    options = TaskOptions.read(sent)
    stored = json.loads(json.dumps(options.encode(sent, "t1")))
    assert TaskOptions.decode(stored, "t1") == options
    assert as_sent(stored, "t1") == sent


@pytest.mark.parametrize("sent", [PLAIN, FULL])
def test_a_row_of_the_release_before_is_read(sent: dict[str, Any]) -> None:
    assert TaskOptions.decode(sent, "t1") == TaskOptions.read(sent)
    assert as_sent(sent, "t1") == sent


def test_stored_options_are_not_validated_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stored = TaskOptions.read({**PLAIN, "stop_grace_s": 7}).encode(PLAIN, "t1")
    monkeypatch.setattr(task_options, "MAX_STOP_GRACE_S", 1)
    assert TaskOptions.decode(stored, "t1").stop_grace_s == 7


def test_a_user_cannot_plant_options() -> None:
    options = {"commands": [], "network": True}
    planted = {**PLAIN, "simherd.options": options, "simherd.options:t2": options}
    stored = TaskOptions.read(planted).encode(planted, "t1")
    assert not TaskOptions.decode(stored, "t1").network
    assert TaskOptions.decode(stored, "t1").commands
    assert not TaskOptions.decode(planted, "t1").network
    assert as_sent(stored, "t1") == planted


def test_stored_options_that_are_damaged_are_named() -> None:
    with pytest.raises(ValueError, match=r"options\.commands: a list is needed"):
        TaskOptions.decode({"simherd.options:t1": {"commands": 3}}, "t1")


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"commands": []}, "extra_params.commands: a list of at least one command is needed."),
        ({"commands": "run"}, "extra_params.commands: a list of"),
        ({"commands": [{}]}, r"extra_params.commands\[0\]: an object with the text field 'cmd'"),
        ({"commands": ["a", 3]}, r"extra_params.commands\[1\]: an object"),
        ({"commands": ["echo 'open"]}, r"commands\[0\].cmd: .* cannot be split"),
        ({"commands": [""]}, r"commands\[0\].cmd: '' names no program"),
        ({"commands": [{"cmd": "a", "prompts": "y"}]}, "'prompts' is a list of texts"),
        ({"commands": [{"cmd": "a", "env": {"A=B": 1}}]}, r"commands\[0\].env: 'A=B' cannot be"),
        (
            {"commands": [{"cmd": "a", "mpi_config": {"options": [1]}}]},
            "mpi_config.options: an obj",
        ),
        ({"env": ["A"]}, "extra_params.env: an object of texts is needed"),
        ({"env": {"A": []}}, "extra_params.env.A: a text is needed"),
        ({"env": {"": "a"}}, "extra_params.env: '' cannot be a variable's name"),
        ({"run_subprocess_dir": 3}, "extra_params.run_subprocess_dir: a text is needed"),
        ({"run_subprocess_dir": "/etc"}, "is not relative to the task's folder"),
        ({"run_subprocess_dir": "a/../b"}, "extra_params.run_subprocess_dir: "),
        ({"warn_signal": "SIGFOO"}, "extra_params.warn_signal: 'SIGFOO' is not one of"),
        ({"warn_before_s": -1}, "extra_params.warn_before_s: -1 is not a number of seconds from 0"),
        ({"stop_grace_s": True}, "extra_params.stop_grace_s: True is not a number of seconds"),
        ({"stall_after_s": float("nan")}, "extra_params.stall_after_s: nan"),
        ({"network": 1}, "extra_params.network: 1 is neither true nor false"),
        ({"checkpoint": {"files": 3}}, "extra_params.checkpoint.files"),
        ({"checkpoint": {"files": "*", "restore": [""]}}, "extra_params.checkpoint.restore: "),
        ({"checkpoint": {"files": "*", "restore": 3}}, "extra_params.checkpoint.restore: "),
    ],
)
def test_what_cannot_be_is_named(more: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        TaskOptions.read({**PLAIN, **more})


@pytest.mark.parametrize(
    ("options", "number"),
    [
        ({}, 0),
        ({"np": 3}, 3),
        ({"n": 3}, 3),
        ({"np": "12"}, 12),
        ({"np": True}, 0),
        ({"np": "many"}, 0),
        ({"np": "9" * 30}, 0),
        ({"np": 99, "oversubscribe": True}, 0),
        ({"np": 99, "map-by": ":OVERSUBSCRIBE"}, 0),
    ],
)
def test_processes_that_need_processors_are_counted(options: dict[str, Any], number: int) -> None:
    sent = {"commands": ["a", {"cmd": "b", "mpi_config": {"options": options}}]}
    assert TaskOptions.read(sent).processes == (0, number)
