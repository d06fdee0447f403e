"""What routes are given: the scheduler's parts, and who is asking."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Header, HTTPException, Request

from scheduler.services.accounts import user_of_key
from scheduler.services.errors import Forbidden
from scheduler.store.models import User
from scheduler.wiring import Parts
from simherd.contract import logs


def get_parts(request: Request) -> Parts:
    """The scheduler's parts."""
    found = request.app.state.parts
    assert isinstance(found, Parts)
    return found


PartsDep = Annotated[Parts, Depends(get_parts)]


def get_user(parts: PartsDep, x_api_key: Annotated[str | None, Header()] = None) -> User:
    """The user whose key came with the request."""
    if not x_api_key:
        raise HTTPException(401, "X-API-Key: no key was sent. `simherd auth login` stores one.")
    with parts.store.read() as session:
        user = user_of_key(session, x_api_key)
    if user is None:
        raise HTTPException(401, "X-API-Key: the key is not known, has expired or was revoked.")
    if user.disabled_at is not None:
        raise HTTPException(
            401, f"X-API-Key: the account {user.username!r} is disabled. Ask an operator."
        )
    logs.note(user=user.id)
    return user


UserDep = Annotated[User, Depends(get_user)]


def get_operator(user: UserDep) -> User:
    """The operator whose key came with the request."""
    if not user.is_operator:
        raise Forbidden("Only operators may do this; your key is not one of theirs.")
    return user


OperatorDep = Annotated[User, Depends(get_operator)]
