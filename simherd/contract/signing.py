"""How a webhook shows that it comes from this server: an HMAC over its time and its body."""

from __future__ import annotations

import hashlib
import hmac
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

#: When it was sent, whole seconds since the epoch; and the signature.
TIMESTAMP_HEADER = "Simherd-Timestamp"
SIGNATURE_HEADER = "Simherd-Signature"
#: Begins the signature; another one would be another way to make it.
_VERSION = "v1="
#: Seconds by which the sender's clock and the receiver's may differ, the way included.
TOLERANCE_S = 300.0


def signature_headers(secret: str, body: bytes, at: float) -> dict[str, str]:
    """The headers for a body that is sent at this moment, seconds since the epoch."""
    timestamp = str(int(at))
    return {TIMESTAMP_HEADER: timestamp, SIGNATURE_HEADER: _signature(secret, timestamp, body)}


def verify_signature(
    secret: str,
    headers: Mapping[str, str],
    body: bytes,
    *,
    tolerance_s: float = TOLERANCE_S,
) -> bool:
    """Whether a webhook was sent by the server that gave out `secret`, and not long ago.

    Args:
        secret: what registering the event answered.
        headers: the request's; upper and lower case are the same.
        body: the request's body, every byte as it came.
        tolerance_s: seconds after which a request is taken for a repeated old one.
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
