"""Joining the group that a ticket was made for, and keeping the secret that came of it.

The secret is made here and stored before it is used, so that neither a crash nor a lost answer
costs the membership. See `simherd.contract.join`.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import httpx

from simherd.contract import limits
from simherd.contract.join import MACHINE_HEADER, ROUTE, SECRET_HEADER, Membership, digest
from simherd.runtime.backoff import Backoff

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

log = logging.getLogger(__name__)

#: Between two tries while the scheduler is out of reach.
_BACKOFF = Backoff(0.1, 10.0)
#: Statuses that say "too slow" and "too many": others boot at the same time.
_PASSING = frozenset({408, 429})


class JoinRefused(Exception):
    """The scheduler does not let this machine in; the message says why."""


@dataclass(frozen=True)
class JoinTicket:
    """What lets this machine join: where the scheduler is, and a token that is good once."""

    api_url: str
    token: str

    @classmethod
    def read(cls, file: Path) -> JoinTicket:
        """The ticket in a file. Raises JoinRefused."""
        try:
            raw = json.loads(file.read_text())
            return cls(str(raw["api_url"]).rstrip("/"), str(raw["token"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise JoinRefused(f"SIMHERD_TICKET_FILE: {file} is no ticket: {error}.") from error


class Identity:
    """Who this machine is to the scheduler. May be asked from any thread."""

    def __init__(self, file: Path, api_url: str, membership: Membership, secret: str) -> None:
        self._file = file
        self._api_url = api_url
        self.membership = membership
        self.secret = secret
        self._http = httpx.Client(timeout=httpx.Timeout(10, connect=5), trust_env=False)

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Tell the scheduler something as this machine.

        Raises:
            httpx.HTTPError: it is out of reach, or refuses.
        """
        me = self.membership.machine_id
        answer = self._http.post(
            f"{self._api_url}{ROUTE}/{path}",
            json=body,
            headers={MACHINE_HEADER: me, SECRET_HEADER: self.secret},
        )
        answer.raise_for_status()
        found: dict[str, Any] = answer.json()
        return found

    def renew_secret(self) -> None:
        """Use another secret from now on, when this one has been used for long.

        Raises:
            httpx.HTTPError: the scheduler is out of reach; the old one stays good.
        """
        kept = json.loads(self._file.read_text())
        if time.time() - kept["secret_at"] < limits.SECRET_S:
            return
        # Stored before it is told: after a crash in between it is told again.
        kept.setdefault("next", _new_secret())
        _store(self._file, kept)
        self.post("secret", {"secret_digest": digest(kept["next"])})
        kept |= {"secret": kept.pop("next"), "secret_at": time.time()}
        _store(self._file, kept)
        self.secret = kept["secret"]
        log.info("event=secret_renewed machine=%s", self.membership.machine_id)

    def close(self) -> None:
        """Let the connection go."""
        self._http.close()


def join(ticket_file: Path, state_dir: Path, wait: Callable[[float], object]) -> Identity:
    """Be a member of the ticket's group, or be it again after a restart.

    Args:
        ticket_file: the ticket; one that was used is not used again.
        state_dir: where the membership is kept.
        wait: sleeps for so many seconds; may raise to give up.

    Raises:
        JoinRefused: the scheduler does not let this machine in.
    """
    ticket = JoinTicket.read(ticket_file)
    file = state_dir / "identity.json"
    kept = _kept(file)
    if kept is None or kept["ticket"] != digest(ticket.token):
        kept = {
            "ticket": digest(ticket.token),
            "secret": _new_secret(),
            "secret_at": time.time(),
            "membership": None,
        }
        _store(file, kept)
    if kept["membership"] is None:
        answer = _ask(ticket, kept["secret"], wait)
        kept["membership"] = asdict(Membership.decode(answer.content))
        _store(file, kept)
    membership = Membership.decode(json.dumps(kept["membership"]))
    log.info("event=joined group=%s machine=%s", membership.group_id, membership.machine_id)
    return Identity(file, ticket.api_url, membership, kept["secret"])


def _ask(ticket: JoinTicket, secret: str, wait: Callable[[float], object]) -> httpx.Response:
    body = {"token": ticket.token, "secret_digest": digest(secret)}
    for pause in _BACKOFF.waits():
        try:
            answer = httpx.post(
                f"{ticket.api_url}{ROUTE}/join", json=body, timeout=10, trust_env=False
            )
            if answer.is_success:
                return answer
            said = answer.text[:300]
            if answer.is_client_error and answer.status_code not in _PASSING:
                raise JoinRefused(f"{ticket.api_url} does not let this machine join: {said}")
        except httpx.TransportError as error:
            said = str(error)
        log.warning("event=join_waits api=%s error=%s", ticket.api_url, said)
        wait(pause)
    raise AssertionError("unreachable")


def _new_secret() -> str:
    return secrets.token_urlsafe(32)


def _kept(file: Path) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads(file.read_text())
    except (OSError, ValueError):
        return None
    return found


def _store(file: Path, kept: dict[str, Any]) -> None:
    new = file.with_suffix(".new")
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as out:
        json.dump(kept, out)
        out.flush()
        os.fsync(out.fileno())
    new.replace(file)
