"""What only operators may do: users, their keys and their quotas."""

from __future__ import annotations

import time
from typing import Annotated, Any

from fastapi import Query
from pydantic import Field

from scheduler.api.bounded import KeySeconds, Name, StrictBody
from scheduler.api.deps import OperatorDep, RuntimeDep
from scheduler.api.limits import MAX_AMOUNT
from scheduler.api.serializers import isoformat_utc, quotas_json
from scheduler.api.strict import StrictRouter
from scheduler.config import PROVIDERS
from scheduler.services.accounts import admin_keys, admin_users, provider_access
from scheduler.services.accounts.admin_keys import KeyState
from scheduler.services.accounts.admin_users import UserState
from scheduler.services.billing.quotas import change_quota, give_defaults, quota_states
from scheduler.services.transaction import read, write

router = StrictRouter(prefix="/v1/admin", tags=["admin"])


class NewUser(StrictBody):
    """A user that is to be made."""

    username: Name
    email: Name
    operator: bool = False


class Disabling(StrictBody):
    """What becomes of a disabled user's tasks: they go on, or are killed."""

    kill: bool = False


class Standing(StrictBody):
    """Whether a user is an operator."""

    operator: bool


class Providers(StrictBody):
    """The providers that a user may start machines with; null: all that are on."""

    providers: list[Annotated[str, Field(max_length=40)]] | None = Field(max_length=len(PROVIDERS))


class NewKey(StrictBody):
    """A key that is to be made; `valid_s`: seconds, without it until it is revoked."""

    username: Name
    label: Name
    valid_s: KeySeconds | None = None


class Rotation(StrictBody):
    """For how long the old key stays good, seconds."""

    keep_s: KeySeconds = 0.0


class NewQuota(StrictBody):
    """What a user may have; null: unlimited."""

    # `change_quota` says which numbers a quota can have.
    value: Annotated[float, Field(ge=-MAX_AMOUNT, le=MAX_AMOUNT, allow_inf_nan=False)] | None


class DefaultQuotas(StrictBody):
    """The user who gets the default quotas; null: every user."""

    username: Name | None


def _user(state: UserState) -> dict[str, Any]:
    user = state.user
    return {
        "username": user.username,
        "email": user.email,
        "created_at": isoformat_utc(user.created_at),
        "operator": user.is_operator,
        "disabled_at": isoformat_utc(user.disabled_at),
        "quotas": user.quotas,
        "providers": user.providers,
        "tasks": state.tasks,
        "groups": state.groups,
    }


def _key(state: KeyState) -> dict[str, Any]:
    return {
        "id": state.id,
        "username": state.username,
        "label": state.label,
        "created_at": isoformat_utc(state.created_at),
        "expires_at": isoformat_utc(state.expires_at),
        "revoked_at": isoformat_utc(state.revoked_at),
        "good": state.good(time.time()),
    }


def _one(rt: RuntimeDep, username: str) -> dict[str, Any]:
    return _user(read(rt, admin_users.user_states, username)[0])


@router.get("/users")
def list_users(rt: RuntimeDep, _user_: OperatorDep) -> list[dict[str, Any]]:
    """Every user, with how many tasks they have going on and how many groups are up."""
    return [_user(state) for state in read(rt, admin_users.user_states)]


@router.post("/users", status_code=201)
def create_user(rt: RuntimeDep, operator: OperatorDep, body: NewUser) -> dict[str, Any]:
    """Make a user, who has no key yet, with the server's default quotas.

    `simulations_isolated`: false where the server runs simulations as plain processes, which can
    read what its own account can.
    """
    write(
        rt,
        admin_users.create_user,
        operator.username,
        body.username,
        body.email,
        operator=body.operator,
        quotas=rt.settings.quotas_of_new_users,
    )
    user = _one(rt, body.username)
    return {**user, "simulations_isolated": rt.settings.isolates_simulations}


@router.get("/users/{username}")
def show_user(rt: RuntimeDep, _user_: OperatorDep, username: str) -> dict[str, Any]:
    """One user."""
    return _one(rt, username)


@router.post("/users/{username}/disable")
def disable_user(
    rt: RuntimeDep, operator: OperatorDep, username: str, body: Disabling
) -> dict[str, Any]:
    """Refuse a user's keys; what they have running goes on, unless `kill` ends their tasks."""
    killed = admin_users.disable_user(rt, operator.username, username, kill=body.kill)
    return {**_one(rt, username), "tasks_killed": killed}


@router.post("/users/{username}/enable")
def enable_user(rt: RuntimeDep, operator: OperatorDep, username: str) -> dict[str, Any]:
    """Let a user's keys be good again."""
    write(rt, admin_users.enable_user, operator.username, username)
    return _one(rt, username)


@router.put("/users/{username}/operator")
def set_operator(
    rt: RuntimeDep, operator: OperatorDep, username: str, body: Standing
) -> dict[str, Any]:
    """Make a user an operator, or no longer one."""
    write(rt, admin_users.set_operator, operator.username, username, body.operator)
    return _one(rt, username)


@router.put("/users/{username}/providers")
def set_providers(
    rt: RuntimeDep, operator: OperatorDep, username: str, body: Providers
) -> dict[str, Any]:
    """Narrow the providers that a user may start machines with; null: all that are on."""
    write(rt, provider_access.set_providers, operator.username, username, body.providers)
    return _one(rt, username)


@router.get("/users/{username}/quotas")
def show_quotas(rt: RuntimeDep, _user_: OperatorDep, username: str) -> dict[str, Any]:
    """What a user may have at one time (null: unlimited), and has now."""
    return _quotas(rt, username)


def _quotas(rt: RuntimeDep, username: str) -> dict[str, Any]:
    return quotas_json(quota_states(rt, read(rt, admin_users.named_user, username)))


@router.put("/users/{username}/quotas/{name}")
def set_quota(
    rt: RuntimeDep, operator: OperatorDep, username: str, name: str, body: NewQuota
) -> dict[str, Any]:
    """Set what a user may have; null: unlimited. What is in use stays, even if it is more."""
    write(rt, change_quota, operator.username, username, name, body.value)
    return _quotas(rt, username)


@router.post("/quotas/defaults")
def give_default_quotas(
    rt: RuntimeDep, operator: OperatorDep, body: DefaultQuotas
) -> dict[str, list[str]]:
    """Give a user, or every user, the server's default quotas where they have none: quotas that
    were set stay. Returns the names of the quotas that were set, by user."""
    defaults = rt.settings.quotas_of_new_users
    return write(rt, give_defaults, operator.username, defaults, body.username)


@router.get("/keys")
def list_keys(
    rt: RuntimeDep, _user_: OperatorDep, username: Annotated[str | None, Query()] = None
) -> list[dict[str, Any]]:
    """Every key, or one user's, by its id; the key itself is shown only when it is created."""
    return [_key(state) for state in read(rt, admin_keys.key_states, username)]


@router.post("/keys", status_code=201)
def create_key(rt: RuntimeDep, operator: OperatorDep, body: NewKey) -> dict[str, Any]:
    """Create a key. `key` in the response is the key itself, shown only once."""
    actor = operator.username
    secret, state = write(rt, admin_keys.make_key, actor, body.username, body.label, body.valid_s)
    return {**_key(state), "key": secret}


@router.post("/keys/{key_id}/revoke", status_code=204)
def revoke_key(rt: RuntimeDep, operator: OperatorDep, key_id: str) -> None:
    """End a key now."""
    write(rt, admin_keys.revoke_key, operator.username, key_id)


@router.post("/keys/{key_id}/rotate", status_code=201)
def rotate_key(
    rt: RuntimeDep, operator: OperatorDep, key_id: str, body: Rotation
) -> dict[str, Any]:
    """Make a key in place of another, which ends now or after `keep_s` seconds."""
    secret, state = write(rt, admin_keys.rotate_key, operator.username, key_id, body.keep_s)
    return {**_key(state), "key": secret}
