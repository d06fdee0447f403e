"""What the README shows is what happens."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tests.conftest import REPOSITORY

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.env import Env

README = (REPOSITORY / "README.md").read_text()


def test_the_examples_in_python_run(env: Env, tmp_path: Path) -> None:
    examples = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    out = env.python("\n".join(examples), tmp_path)
    assert "■ Success" in out
    assert "result.txt" in out
    assert "3/3" in out
    assert out.endswith("0\n42\n")
    assert (tmp_path / "simherd_output/results/result.txt").read_text() == "42\n"


def test_the_example_on_the_command_line_runs(env: Env, tmp_path: Path) -> None:
    (tmp_path / "my-case").mkdir()
    (tmp_path / "my-case" / "input.txt").write_text("42\n")
    (line,) = re.findall(r"^simherd (run .*)$", README, re.MULTILINE)
    done = env.cli(*line.split(), folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert env.cli("tasks", "wait", "-q", done.stdout.strip()).returncode == 0


def test_every_link_leads_somewhere() -> None:
    for page in [REPOSITORY / "README.md", *(REPOSITORY / "docs").rglob("*.md")]:
        for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / link).exists(), f"{page.name}: {link}"
