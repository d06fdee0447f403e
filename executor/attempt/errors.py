"""How a stage says that it cannot go on."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from simherd.contract.cause import Cause


class StageFailed(Exception):
    """A stage could not do its work; `cause` is what the attempt ends with."""

    def __init__(self, cause: Cause, detail: str) -> None:
        super().__init__(detail)
        self.cause = cause
        self.detail = detail


class Stopped(Exception):
    """A stage noticed that the attempt's switch was tripped."""

    def __init__(self, cause: Cause) -> None:
        super().__init__(cause.value)
        self.cause = cause
