"""New ids."""

from __future__ import annotations

import secrets
import string
import uuid

_ALPHABET = string.ascii_lowercase + string.digits
#: Length of a task id: that of the ids in the public documentation.
TASK_ID_LENGTH = 25


def new_task_id() -> str:
    """A task id: 25 lower-case letters and digits."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(TASK_ID_LENGTH))


def new_uuid() -> str:
    """An id for everything else."""
    return str(uuid.uuid4())


def new_group_name() -> str:
    """A name for a machine group that was given none."""
    return "api-" + "".join(secrets.choice(_ALPHABET) for _ in range(20))
