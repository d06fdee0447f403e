"""What a service refuses, in words for the user."""

from __future__ import annotations


class ServiceError(Exception):
    """The request cannot be carried out; the message says why and what to do."""


class ResourceNotFound(ServiceError):
    """It does not exist, or is not the user's."""


class Conflict(ServiceError):
    """It is there, but not in a state that allows this."""


class Invalid(ServiceError):
    """A field has a value that cannot be; the message names both."""


class TooLarge(ServiceError):
    """More bytes than are allowed."""


class QuotaExceeded(ServiceError):
    """The user has what is allowed; the message names the quota, its value and the use."""


class GatewayTimeout(ServiceError):
    """Another server does not respond in time; a retry in some seconds may succeed."""


class TooManyRequests(ServiceError):
    """As much of it goes on as may at one time; the message says what to do."""


class Forbidden(ServiceError):
    """A credential is not good for this."""
