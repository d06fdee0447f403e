"""What the documentation shows is what happens, and the site can be built."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.conftest import REPOSITORY

if TYPE_CHECKING:
    from tests.support.env import Env

pytestmark = pytest.mark.slow

DOCS = REPOSITORY / "docs"
#: Pages each of whose snippets is run, in their order. A `console` block is typed once, to have a
#: Simherd at all.
PAGES = [
    "getting-started.md",
    "guides/submitting.md",
    "guides/waiting.md",
    "guides/live-files.md",
    "guides/downloads.md",
]
#: What a page's Python prints, as the page says or lets expect.
PRINTED = {
    "getting-started.md": ["■ Success", "42\n"],
    "guides/submitting.md": ["success\n", "{'mesh': 'coarse'}"],
    "guides/waiting.md": ["3/3", "seconds\n"],
    "guides/live-files.md": ["step 1\nstep 2\nstep 3\n", "a.txt FileKind.FILE 2", "sleep 600"],
    "guides/downloads.md": ["fields/late/u.txt", "'fields/q.txt' not in the archive"],
}
#: Files (`*` is a task's id) that are there after a page's shell commands.
LEFT = {
    "getting-started.md": ["results/*/outputs/result.txt"],
    "guides/live-files.md": ["kept.txt", "here.txt"],
    "guides/downloads.md": ["some/*/outputs/out/a.txt", "data/run-2/fields/p.txt"],
}


def snippets(page: str, language: str) -> str:
    """All of a page's blocks of a language, as one program."""
    found = re.findall(rf"^```{language}\n(.*?)^```", (DOCS / page).read_text(), re.M | re.S)
    return "\n".join(found)


@pytest.mark.parametrize("page", PAGES)
def test_the_snippets_of_a_page_run(env: Env, tmp_path: Path, page: str) -> None:
    out = env.python(snippets(page, "python"), tmp_path)
    for text in PRINTED[page]:
        assert text in out
    env.shell(snippets(page, "sh"), tmp_path)
    for name in LEFT.get(page, []):
        assert list(tmp_path.glob(name)), name


def test_the_site_is_whole_and_asks_no_other_server(tmp_path: Path) -> None:
    """Each warning ends the build: a link or an anchor that leads nowhere, a page left out."""
    mkdocs = Path(sys.executable).with_name("mkdocs")
    done = subprocess.run(
        [mkdocs, "build", "--strict", "--quiet", "--site-dir", tmp_path],
        cwd=REPOSITORY,
        env={"PATH": "/usr/bin:/bin", "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    pages = list(tmp_path.rglob("*.html"))
    assert {"index.html", "lifecycle.html"} <= {page.name for page in pages}
    for page in pages:
        fetched = re.findall(
            r"<(?:script|link|img|iframe)[^>]*(?:src|href)=\"?https?:", page.read_text()
        )
        assert not fetched, page
