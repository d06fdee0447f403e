"""Which files belong to a checkpoint, and what a user may ask for."""

from __future__ import annotations

from typing import Any

import pytest

from simherd.contract.checkpoints import Checkpoints
from simherd.simulators import _catalogue


@pytest.mark.parametrize(
    ("pattern", "path", "belongs"),
    [
        ("*.cpt", "state.cpt", True),
        ("*.cpt", "run/state.cpt", False),
        ("**/*.cpt", "state.cpt", True),
        ("**/*.cpt", "a/b/state.cpt", True),
        ("out/**", "out/a/b", True),
        ("out/**", "out", False),
        ("out/**", "outside/a", False),
        ("[0-9]*/**", "0.25/uniform/time", True),
        ("[0-9]*/**", "constant/mesh", False),
        ("processor*/[0-9]*/**", "processor12/1.5/U", True),
        ("a?c", "abc", True),
        ("a?c", "a/c", False),
        ("none", "checkpoint/any/thing", True),
        ("none", "checkpoint", False),
    ],
)
def test_patterns_are_those_of_a_shell(pattern: str, path: str, belongs: bool) -> None:
    assert Checkpoints.read([pattern]).matches(path) is belongs


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ([], "checkpoint.files"),
        ({"files": 3}, "checkpoint.files"),
        (["/etc/passwd"], "checkpoint.files"),
        (["../other"], "checkpoint.files"),
        (["a//b"], "checkpoint.files"),
        (["**/**/**/**/x"], "checkpoint.files"),
        ({"files": ["*"], "every_s": 0}, "checkpoint.every_s"),
        ({"files": ["*"], "every_s": True}, "checkpoint.every_s"),
        ({"files": ["*"], "color": "red"}, "checkpoint.color"),
    ],
)
def test_what_cannot_be_is_refused_by_its_field(given: Any, field: str) -> None:
    with pytest.raises(ValueError, match=field.replace(".", r"\.")):
        Checkpoints.read(given)


def test_every_checkpoint_of_the_catalogue_is_accepted() -> None:
    known = [row["checkpoint"] for row in _catalogue().values() if "checkpoint" in row]
    assert known
    for given in known:
        Checkpoints.read(given)
