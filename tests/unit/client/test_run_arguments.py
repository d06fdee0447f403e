"""Arguments of `Simulator.run`: refused before anything is sent, with their name."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import pytest

from simherd import submission
from simherd.errors import InvalidInput
from simherd.simulators import CustomImage

if TYPE_CHECKING:
    from pathlib import Path

    from simherd.submission import Submission


def describe(**arguments: Any) -> Submission:
    """The description of a task that `run` would submit."""
    given = {"commands": ["./solve"], **arguments}
    described: Submission = inspect.unwrap(CustomImage.run)(CustomImage("image"), **given)
    return described


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"commands": None}, "commands: at least one is needed"),
        ({"commands": []}, "commands: at least one is needed"),
        ({"commands": "./solve"}, "commands: a list is needed, not the text './solve'"),
        ({"max_cost": 0}, "max_cost: 0 must be more than zero"),
        ({"max_cost": float("inf")}, "max_cost: inf must be more than zero"),
        ({"max_cost": float("nan")}, "max_cost: nan must be more than zero"),
        ({"time_to_live": "soon"}, "time_to_live: 'soon' is not a duration"),
        ({"warn_before": "0s"}, "warn_before: '0s' must be more than zero"),
        ({"stop_grace": "-1"}, "stop_grace: '-1' is not a duration"),
        ({"stall_after": "x"}, "stall_after: 'x' is not a duration"),
        ({"checkpoint": True}, "checkpoint: nothing is known of CustomImage"),
        ({"checkpoint": {"file": []}}, "checkpoint.file"),
        ({"checkpoint": ["*"], "checkpoint_every": "?"}, "checkpoint_every: '?' is not a duration"),
        ({"mesh": "a.stl"}, "mesh: CustomImage has no such argument"),
    ],
)
def test_an_argument_that_makes_no_sense_is_named(arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        describe(**arguments)
    assert str(refused.value).startswith(sentence)


def test_arguments_that_are_given_are_described() -> None:
    made = describe(
        time_to_live="1h", stall_after=0, checkpoint="*.cpt", checkpoint_every="5m", env={"A": "1"}
    )
    assert (made.time_to_live_s, made.stall_after_s, made.warn_before_s) == (3600, 0, None)
    assert made.checkpoint == {"files": ["*.cpt"], "every_s": 300}
    assert made.env == {"A": "1"}
    assert made.remote_assets == []


def test_an_image_has_a_name() -> None:
    with pytest.raises(InvalidInput, match="container_image: an image's name is needed"):
        CustomImage("  ")


def test_a_sweep_names_the_case_and_sends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submission, "submit_all", lambda _all: pytest.fail("sent"))
    with pytest.raises(InvalidInput, match=r"^cases\[1\]: time_to_live: 'x'"):
        CustomImage("image").run_sweep([{}, {"time_to_live": "x"}], commands=["./solve"])


def test_a_sweep_adds_environment_and_metadata_of_each_case(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(submission, "submit_all", list)
    cases = [{"env": {"B": "2"}}, {"metadata": {"n": "1"}}]
    described: Any = CustomImage("image").run_sweep(
        cases, client_key="k", commands=["./solve"], env={"A": "1"}
    )
    first, second = described
    assert (first.env, second.env) == ({"A": "1", "B": "2"}, {"A": "1"})
    assert (first.client_key, second.client_key) == ("k-0", "k-1")
    assert second.metadata == {"n": "1"}


def test_an_empty_list_of_cases_submits_no_task() -> None:
    assert CustomImage("image").run_sweep([]) == []


def test_files_of_an_argument_go_over_those_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "speed.txt").write_text("1")
    (tmp_path / "mesh").write_text("mesh")
    made = describe(input_dir=tmp_path, files={"speed.txt": "22"})
    assert made.files == {"speed.txt": b"22"}
    assert made.input_dir == tmp_path
