"""What a service refuses, in words for the user."""

from __future__ import annotations


class Refused(Exception):
    """The request cannot be carried out; the message says why and what to do."""


class NotFound(Refused):
    """There is no such thing, or it is not the user's."""


class Conflict(Refused):
    """It is there, but not in a state that allows this."""


class Invalid(Refused):
    """A field has a value that cannot be; the message names both."""


class TooLarge(Refused):
    """More bytes than are allowed."""


class QuotaExceeded(Refused):
    """The user has what is allowed; the message names the quota, its value and the use."""


class Unanswered(Refused):
    """Somebody who must answer does not, just now; the same may work in some seconds."""


class Busy(Refused):
    """As much of it goes on as may at one time; the message says what to do."""


class Forbidden(Refused):
    """A credential is not good for this."""
