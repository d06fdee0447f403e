"""Keeping secrets out of what is written down: logs, and traces that are sent to a collector."""

from __future__ import annotations

import re

#: What stands in a secret's place.
HIDDEN = "***"

_VALUE = r"[^\s\"'&,;\\)}\]]+"
#: How names of parameters, headers and fields end whose value is a secret. `X-Amz-Credential` is
#: good for nothing without the signature, but shows whose key it is.
_NAMES = (
    "signature|password|secret|token|credential|authorization|"
    "api[_-]?key|signing_key|access_?key(?:_?id)?"
)
_SECRET = re.compile(
    # The password of a URL; up to the last @, for it may hold one itself.
    r"(://[^\s/:@\"']*:)[^\s/\"']+(?=@)"
    # NAME=VALUE, NAME: VALUE, "NAME": "VALUE"; quotes come escaped within JSON.
    rf"|((?:{_NAMES})\\?[\"']?\s*[=:]\s*\\?[\"']?(?:(?:Bearer|Basic)\s+)?){_VALUE}"
    r"|(\bBearer\s+)[\w.~+/=-]{8,}"
    # Our own keys and tokens, wherever they stand.
    r"|\b(sh_|join_|whsec_)[\w-]{20,}",
    re.IGNORECASE,
)


#: One of these is in every secret's place; looking for them costs a twentieth of the search.
_SIGNS = (
    *("signature", "password", "secret", "token", "credential", "authorization", "key", "bearer"),
    *("://", "sh_", "join_", "whsec_"),
)


def redact(text: str) -> str:
    """The text without the secrets in it: keys, tokens, passwords in URLs, signatures."""
    lower = text.lower()
    if not any(sign in lower for sign in _SIGNS):
        return text
    return _SECRET.sub(_hide, text)


def _hide(found: re.Match[str]) -> str:
    return "".join(filter(None, found.groups())) + HIDDEN
