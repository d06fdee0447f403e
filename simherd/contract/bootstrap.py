"""What `simherd-scheduler bootstrap` says to the program that runs it."""

from __future__ import annotations

from typing import Final

#: A line on its standard output: the key of SIMHERD_BOOTSTRAP_KEY was revoked or has expired. That
#: is no failure: where operators look after keys, the first one is replaced some day.
KEY_IS_UNUSABLE: Final = "bootstrap: the key is revoked or has expired"
