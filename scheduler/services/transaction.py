"""Calling a service function that takes a session, in a transaction of one call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.orm import Session

    from scheduler.wiring import Runtime

P = ParamSpec("P")
R = TypeVar("R")


def read(
    rt: Runtime, function: Callable[Concatenate[Session, P], R], *args: P.args, **kwargs: P.kwargs
) -> R:
    """Return `function(session, *args, **kwargs)`, with a session for reading."""
    with rt.store.read() as session:
        return function(session, *args, **kwargs)


def write(
    rt: Runtime, function: Callable[Concatenate[Session, P], R], *args: P.args, **kwargs: P.kwargs
) -> R:
    """Return `function(session, *args, **kwargs)` after its transaction is committed."""
    with rt.store.write() as session:
        return function(session, *args, **kwargs)
