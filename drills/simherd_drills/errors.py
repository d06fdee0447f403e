"""What can go wrong in a drill, beyond what any command can meet."""

from __future__ import annotations

from simherd.errors import SimherdError

#: What a script exits with that refuses, and has done nothing.
REFUSED = 75
#: Why a drill refuses.
GOES_ON = "a drill goes on there already; simherd sim heal ends what one has left."


class DrillNotPossible(SimherdError):
    """This drill cannot be done here, or only with harm to others; the message says why. Nothing
    was done: so there is nothing to be healed either."""


class DockerUnavailable(SimherdError):
    """There is no Docker engine, or it does not respond to this user."""
