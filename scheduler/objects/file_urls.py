"""Signed URLs of the API's file routes: user, action, path and expiry.

URLs of users lead here with S3 too. The published client sends uploads without their length and
asks with HEAD for the size of what a URL downloads; S3 takes neither (Amazon S3 API reference,
PutObject; a signature is good for one method).
"""

from __future__ import annotations

import hashlib
import hmac
import time
from urllib.parse import quote, quote_plus

#: Route under which the API serves files: one segment before the object's own path.
ROUTE = "/files"
#: What a user's URL for an upload allows: unlike `upload`, which is for outputs of tasks, it counts
#: against the user's quota for storage.
COUNTED_UPLOAD = "counted-upload"


class FileUrls:
    """Signs URLs, and verifies their signatures."""

    def __init__(self, public_url: str, signing_key: str) -> None:
        self._public_url = public_url.rstrip("/")
        self._key = signing_key.encode()

    def sign(self, user: str, path: str, verb: str, valid_s: float) -> str:
        """Return an absolute URL that allows `verb` on this one path for a while."""
        expires = str(int(time.time() + valid_s))
        signature = self._signature(user, path, verb, expires)
        query = f"user={quote_plus(user)}&verb={quote_plus(verb)}"
        query += f"&expires={expires}&signature={signature}"
        return f"{self._public_url}{ROUTE}/{quote(path)}?{query}"

    def verified(self, user: str, path: str, verb: str, expires: str, signature: str) -> bool:
        """Return whether a URL's parts were signed here and have not expired."""
        good = self._signature(user, path, verb, expires)
        # As bytes: texts that are not ASCII cannot be compared this way.
        is_good = hmac.compare_digest(good.encode(), signature.encode())
        return is_good and float(expires) >= time.time()

    def _signature(self, user: str, path: str, verb: str, expires: str) -> str:
        text = "\n".join((user, path, verb, expires))
        return hmac.new(self._key, text.encode(), hashlib.sha256).hexdigest()
