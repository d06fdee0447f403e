"""What is found to be wrong with a scheduler's settings, and what becomes of it."""

from __future__ import annotations

import logging
import sys
from dataclasses import dataclass

log = logging.getLogger(__name__)

#: How the names of variables begin: of all settings, and of those for EC2.
PREFIX = "SIMHERD_"
EC2_PREFIX = f"{PREFIX}EC2_"


@dataclass(frozen=True)
class Finding:
    """What is wrong with a setting.

    `is_contradiction`: Simherd does not work as promised with it. `is_note`: it is logged, and
    never a reason not to start.
    """

    setting: str
    says: str
    is_contradiction: bool = False
    is_note: bool = False

    def __str__(self) -> str:
        return f"{self.setting}: {self.says}"


def stop_or_warn(findings: list[Finding], policy: str) -> None:
    """Log what was found.

    `policy`: `refuse` ends the process for whatever is unsafe, `warn` for contradictions alone.

    Raises SystemExit: the process must not start; the reasons are on standard error.
    """
    unsafe = policy == "refuse"
    fatal = [one for one in findings if one.is_contradiction or (unsafe and not one.is_note)]
    for one in fatal:
        print(f"simherd-scheduler: {one}", file=sys.stderr)
    if fatal:
        sys.exit(2)
    for one in findings:
        log.warning("event=unsafe_setting setting=%s reason=%s", one.setting, one.says)
