"""Processes that end with the tests, however these end: a run that is killed cleans nothing up."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def mortal(argv: Sequence[str]) -> list[str]:
    """A command that gets SIGINT when the thread that started it is no more, where the kernel can
    be told so (setpriv of util-linux)."""
    setpriv = shutil.which("setpriv")
    return [*((setpriv, "--pdeathsig", "INT") if setpriv else ()), *argv]
