"""Joining: with a secret that is kept before it is used, once for each ticket."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from executor.join import SECRET_S, JoinRefused, JoinTicket, join
from simherd.contract.join import MACHINE_HEADER, SECRET_HEADER, Membership, digest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MEMBER = Membership("m1", "worker", "g1", "redis://r", "type", 2, 1024, 0, 600, {})


class Scheduler:
    """Answers with the statuses that are set, then lets in."""

    def __init__(self, *statuses: int) -> None:
        self.statuses = list(statuses)
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.url = ""


@contextmanager
def serving(scheduler: Scheduler) -> Iterator[None]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Nothing."""

        def do_POST(self) -> None:
            data = self.rfile.read(int(self.headers["content-length"]))
            scheduler.bodies.append(json.loads(data))
            scheduler.headers.append(dict(self.headers))
            status = scheduler.statuses.pop(0) if scheduler.statuses else 200
            text = json.dumps(asdict(MEMBER)) if status == 200 else "because"
            self.send_response(status)
            self.send_header("content-length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    scheduler.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def scheduler() -> Iterator[Scheduler]:
    scheduler = Scheduler()
    with serving(scheduler):
        yield scheduler


@pytest.fixture
def ticket(scheduler: Scheduler, tmp_path: Path) -> Path:
    file = tmp_path / "ticket"
    file.write_text(json.dumps({"api_url": f"{scheduler.url}/", "token": "t1"}))
    return file


def no_wait(_seconds: float) -> None:
    """Try again at once."""


@pytest.mark.parametrize(
    "text", [None, "", "{", "[]", "5", "{}", '{"api_url": "http://x"}', '{"token": "t"}']
)
def test_a_ticket_that_is_none_is_refused_by_name(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "ticket").write_text(text)
    with pytest.raises(JoinRefused, match="SIMHERD_TICKET_FILE"):
        JoinTicket.read(tmp_path / "ticket")


def test_a_machine_joins_once_and_keeps_its_membership(
    scheduler: Scheduler, ticket: Path, tmp_path: Path
) -> None:
    first = join(ticket, tmp_path, no_wait)
    again = join(ticket, tmp_path, no_wait)
    assert first.membership == again.membership == MEMBER
    assert first.secret == again.secret
    assert scheduler.bodies == [{"token": "t1", "secret_digest": digest(first.secret)}]
    assert (tmp_path / "identity.json").stat().st_mode & 0o077 == 0
    first.close()
    again.close()


def test_another_ticket_is_another_membership(
    scheduler: Scheduler, ticket: Path, tmp_path: Path
) -> None:
    first = join(ticket, tmp_path, no_wait)
    ticket.write_text(json.dumps({"api_url": scheduler.url, "token": "t2"}))
    second = join(ticket, tmp_path, no_wait)
    assert first.secret != second.secret
    assert [body["token"] for body in scheduler.bodies] == ["t1", "t2"]


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503])
def test_what_may_pass_is_tried_again_with_the_same_secret(
    scheduler: Scheduler, ticket: Path, tmp_path: Path, status: int
) -> None:
    scheduler.statuses = [status, status]
    waits: list[float] = []
    identity = join(ticket, tmp_path, waits.append)
    assert waits == [0.1, 0.2]
    assert {body["secret_digest"] for body in scheduler.bodies} == {digest(identity.secret)}


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 410])
def test_a_refusal_is_final_and_says_why(
    scheduler: Scheduler, ticket: Path, tmp_path: Path, status: int
) -> None:
    scheduler.statuses = [status]
    with pytest.raises(JoinRefused, match="because"):
        join(ticket, tmp_path, no_wait)
    assert len(scheduler.bodies) == 1


class GivenUp(Exception):
    pass


def test_a_scheduler_that_is_out_of_reach_is_waited_for_until_the_wait_raises(
    tmp_path: Path,
) -> None:
    waits: list[float] = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 9:
            raise GivenUp

    file = tmp_path / "ticket"
    file.write_text(json.dumps({"api_url": "http://127.0.0.1:1", "token": "t"}))
    with pytest.raises(GivenUp):
        join(file, tmp_path, wait)
    assert waits[:3] == [0.1, 0.2, 0.4]
    assert max(waits) == 10
    # The secret was kept before it was used.
    assert json.loads((tmp_path / "identity.json").read_text())["membership"] is None


@pytest.mark.parametrize(("age_s", "is_renewed"), [(0, False), (SECRET_S + 1, True)])
def test_a_secret_is_renewed_when_it_is_old(
    scheduler: Scheduler, ticket: Path, tmp_path: Path, age_s: float, is_renewed: bool
) -> None:
    identity = join(ticket, tmp_path, no_wait)
    file, old = tmp_path / "identity.json", identity.secret
    kept = json.loads(file.read_text())
    file.write_text(json.dumps({**kept, "secret_at": kept["secret_at"] - age_s}))
    identity.renew_secret()
    assert (identity.secret != old) is is_renewed
    assert json.loads(file.read_text())["secret"] == identity.secret
    if is_renewed:
        assert scheduler.bodies[-1] == {"secret_digest": digest(identity.secret)}
        sent = {name.lower(): value for name, value in scheduler.headers[-1].items()}
        assert (sent[MACHINE_HEADER.lower()], sent[SECRET_HEADER.lower()]) == ("m1", old)
    identity.close()


def test_an_interrupted_renewal_resumes_with_the_same_secret(
    scheduler: Scheduler, ticket: Path, tmp_path: Path
) -> None:
    identity = join(ticket, tmp_path, no_wait)
    file = tmp_path / "identity.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "secret_at": 0}))
    scheduler.statuses = [503]
    with pytest.raises(httpx.HTTPStatusError):
        identity.renew_secret()
    chosen = json.loads(file.read_text())["next"]
    identity.renew_secret()
    assert identity.secret == chosen
    assert [body["secret_digest"] for body in scheduler.bodies[-2:]] == [digest(chosen)] * 2
    identity.close()
