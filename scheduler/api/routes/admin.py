"""What only operators may do."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict

from scheduler.api.deps import PartsDep, UserDep
from scheduler.services.doctor import examine
from scheduler.services.errors import Forbidden
from scheduler.store.models import User


def _operator(user: UserDep) -> User:
    if not user.is_operator:
        raise Forbidden("Only operators may do this; your key is not one of theirs.")
    return user


router = APIRouter(prefix="/v1/admin", tags=["admin"])
Operator = Annotated[User, Depends(_operator)]


class Examination(BaseModel):
    """Whether what is found is to be put right."""

    model_config = ConfigDict(extra="forbid")
    fix: bool = False


@router.post("/doctor")
def doctor(parts: PartsDep, _user: Operator, asked: Examination) -> list[dict[str, Any]]:
    """Look for machines, leases, users and uploads that nobody wants any more."""
    return [asdict(finding) for finding in examine(parts, fix=asked.fix)]
