"""Patterns of fields that people fill in, each with its rule in words for the error."""

from __future__ import annotations

from typing import Final

from scheduler.domain.limits import GROUP_NAME

PRINTABLE: Final = "^[!-~]+$"
MONTH: Final = r"^(19[7-9]\d|[2-9]\d{3})-(0[1-9]|1[0-2])$"
ID: Final = r"^[A-Za-z0-9-]{1,64}$"

#: Pattern → what a value must be.
RULES: Final = {
    GROUP_NAME: (
        "use 1 to 63 lower-case letters, digits and hyphens, with a letter or digit at both ends"
    ),
    PRINTABLE: "use printable ASCII characters without spaces",
    MONTH: "use a year and a month, such as 2026-05",
    ID: "use 1 to 64 letters, digits and hyphens",
}
