"""What mkdocs does besides: pages of the documentation are read on the site and in the repository.

A link to a file outside `docs/` leads to it in the repository; the site has no such file, and shows
the link's text. A `|` in the code of a table has to be escaped for who reads the repository, and
must not be for the site.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.pages import Page

_CODE_IN_TABLE = re.compile(r"(?<=\|) (`[^`]+`)(?= \|)")
_LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(([^)#:]+)\)")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """List the decisions, which every change may add to, behind what is listed by hand."""
    docs = Path(config.docs_dir)
    decisions = sorted(file.relative_to(docs).as_posix() for file in docs.glob("decisions/*.md"))
    assert config.nav is not None
    config.nav[-1]["Inside"].append({"Decisions": decisions})
    return config


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, **_: Any) -> str:
    """Make the page as the site's reader wants it."""
    docs = Path(config.docs_dir)
    folder = (docs / page.file.src_uri).parent

    def shown(link: re.Match[str]) -> str:
        inside = (folder / link[2]).resolve().is_relative_to(docs)
        return link[0] if inside else link[1]

    plain = _CODE_IN_TABLE.sub(lambda found: " " + found[1].replace("\\|", "|"), markdown)
    return _LINK.sub(shown, plain)
