"""Dependencies of routes: the scheduler's runtime, and the authenticated user."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Header, HTTPException, Request

from scheduler.services.errors import Forbidden
from scheduler.store.models import User
from scheduler.wiring import Runtime


def get_runtime(request: Request) -> Runtime:
    """Return the scheduler's runtime."""
    runtime = request.app.state.runtime
    assert isinstance(runtime, Runtime)
    return runtime


RuntimeDep = Annotated[Runtime, Depends(get_runtime)]


async def get_user(request: Request, x_api_key: Annotated[str | None, Header()] = None) -> User:
    """The user whose key came with the request: `edge.guard` has looked it up.
    The header is a parameter for the description of the API alone."""
    user = getattr(request.state, "user", None)
    if not isinstance(user, User):
        raise HTTPException(401, "X-API-Key: no key was sent. `simherd auth login` stores one.")
    return user


UserDep = Annotated[User, Depends(get_user)]


async def get_operator(user: UserDep) -> User:
    """The operator whose key came with the request."""
    if not user.is_operator:
        raise Forbidden("Only operators may do this; your key is not one of theirs.")
    return user


OperatorDep = Annotated[User, Depends(get_operator)]
