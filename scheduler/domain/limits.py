"""Bounds that several rooms of the scheduler rely on."""

from __future__ import annotations

#: Seconds after the start of Redis or the scheduler in which nobody is declared lost.
GRACE_AFTER_START_S = 30.0
#: Seconds for which a join token is good, and in which a launched machine must have joined.
JOIN_S = 900.0
#: Seconds a signed URL handed to an executor stays good; S3 allows 7 days at the most.
EXECUTOR_URL_S = 7 * 86400
#: Names of machine groups: labels of host names (RFC 1123), since machines are named after them.
GROUP_NAME = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"
#: Largest input archive, bytes.
MAX_INPUT_BYTES = 64 * 1024**3
#: Users whom the owner of a group may share it with; an operator shares with everyone.
MAX_GROUP_SHARES = 100
#: The name of the Redis server that a scheduler always has.
MAIN_SERVER = "main"
#: Characters of a deployment's signing key: as many as `openssl rand -hex 16` makes.
LEAST_SIGNING_KEY = 32
