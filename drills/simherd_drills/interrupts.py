"""What ends a drill early, and no healing: Ctrl-C, SIGTERM, a terminal that goes."""

from __future__ import annotations

import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def listen() -> None:
    """Leave by KeyboardInterrupt at any of them: so what is broken is healed first. What is ignored
    stays so: somebody has said `nohup`."""
    for number in _ENDING:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _leave)


def ignore() -> None:
    """Let none of them interrupt what follows."""
    for number in _ENDING:
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Ignore all of them meanwhile."""
    before = {number: signal.getsignal(number) for number in _ENDING}
    ignore()
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _leave(_number: int, _frame: FrameType | None) -> None:
    # Several victims are healed one after another: a second signal must not come between them.
    ignore()
    raise KeyboardInterrupt
