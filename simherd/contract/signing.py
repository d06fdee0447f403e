"""The signature of webhooks: an HMAC over the time and the body."""

from __future__ import annotations

import hashlib
import hmac
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

#: The time of sending, whole seconds since the epoch; and the signature.
TIMESTAMP_HEADER = "Simherd-Timestamp"
SIGNATURE_HEADER = "Simherd-Signature"
#: Start of the signature: its version.
_VERSION = "v1="
#: Seconds between sending and verifying, by the clocks of both sides, at most.
TOLERANCE_S = 300.0


def signature_headers(secret: str, body: bytes, at: float) -> dict[str, str]:
    """Return the headers for a body that is sent at this moment, seconds since the epoch."""
    timestamp = str(int(at))
    return {TIMESTAMP_HEADER: timestamp, SIGNATURE_HEADER: _signature(secret, timestamp, body)}


def verify_signature(
    secret: str,
    headers: Mapping[str, str],
    body: bytes,
    *,
    tolerance_s: float = TOLERANCE_S,
) -> bool:
    """Return whether a webhook was sent by the server that issued `secret`, and recently.

    Args:
        secret: the secret from the registration of the notification.
        headers: the request's; their case does not matter.
        body: the unchanged bytes of the request's body.
        tolerance_s: seconds after which a request counts as a replay.
    """
    given = {name.lower(): value for name, value in headers.items()}
    timestamp = given.get(TIMESTAMP_HEADER.lower(), "")
    signature = given.get(SIGNATURE_HEADER.lower(), "")
    if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) < 16):
        return False
    fresh = abs(time.time() - int(timestamp)) <= tolerance_s
    wanted = _signature(secret, timestamp, body)
    return hmac.compare_digest(wanted.encode(), signature.encode()) and fresh


def _signature(secret: str, timestamp: str, body: bytes) -> str:
    text = timestamp.encode() + b"." + body
    return _VERSION + hmac.new(secret.encode(), text, hashlib.sha256).hexdigest()
