"""What `simherd-scheduler bootstrap` prints for the program that runs it."""

from __future__ import annotations

from typing import Final

#: A line on its standard output: the key of SIMHERD_BOOTSTRAP_KEY was revoked or has expired, which
#: is not a failure: operators replace the first key some day.
KEY_IS_UNUSABLE: Final = "bootstrap: the key is revoked or has expired"
