"""Authentication and rate limits, before one byte of a body is read."""

from __future__ import annotations

from contextlib import AsyncExitStack, ExitStack
from typing import TYPE_CHECKING
from urllib.parse import unquote_plus

from fastapi import HTTPException, Request
from fastapi.concurrency import run_in_threadpool

from scheduler.api import problems
from scheduler.api.asgi import HttpMiddleware
from scheduler.api.edge.access import Credential, Rule, Rules
from scheduler.api.edge.bodies import Body
from scheduler.api.edge.limits import MAX_OPEN_BODY_BYTES
from scheduler.api.edge.rates import BodyBudget, Buckets, KnownKeys, Lane, Shares, too_many
from scheduler.services.accounts.users import key_digest, user_of_key
from scheduler.services.attempts.outputs import check_token
from scheduler.services.errors import Forbidden
from scheduler.services.machines.access import known_machine
from scheduler.services.transaction import read
from simherd.contract import limits
from simherd.contract.join import MACHINE_HEADER, SECRET_HEADER
from simherd.runtime import logs

if TYPE_CHECKING:
    from collections.abc import Mapping

    from scheduler.api.asgi import Application, Message, Receive, Scope, Send
    from scheduler.store.models import User
    from scheduler.wiring import Runtime

    Headers = Mapping[bytes, bytes]

#: Longest API key, characters: made ones have 46.
MAX_KEY_CHARACTERS = 256
#: Requests of strangers that are looked into at one time, by an API process.
STRANGERS = 64
#: Seconds' worth of requests that a user may send at once.
REQUESTS_BURST_S = 25.0
#: Parameters of a URL's query: a path for each file of a folder, and some others.
MAX_QUERY_PARAMETERS = limits.MAX_SIGNED_PATHS + 100
#: Requests of one user that one API process works on in threads at the same time (of 40 threads, as
#: many as AnyIO has), and how many more wait for their turn, without a thread.
USER_THREADS = 12
USER_WAITING_REQUESTS = 500

#: Where keys do not belong: URLs are logged, by proxies too.
_KEY_NAMES = frozenset({"x-api-key", "x_api_key", "api_key", "apikey", "api-key"})
_MACHINE_ID, _SECRET = MACHINE_HEADER.lower().encode(), SECRET_HEADER.lower().encode()
_OWN_REQUESTS = "Too many of your requests are under way. Send one after another."
_STRANGERS = "There are too many requests without a known key at one time. Try again."


class Guard(HttpMiddleware):
    """Passes on what shows the credential that its route takes; `request.state.user` is the user.
    It keeps its state in this API process."""

    def __init__(self, app: Application, rt: Runtime, rules: Rules) -> None:
        super().__init__(app)
        self._rt, self._rules = rt, rules
        settings = rt.settings
        self._idle_s = settings.request_body_s
        per_s = settings.user_requests_per_s
        self._requests = Buckets(per_s, max(1.0, per_s * REQUESTS_BURST_S))
        self._failures = Buckets(settings.failed_keys_per_min / 60, settings.failed_keys_per_min)
        self._known = KnownKeys()
        self._strangers = Lane(STRANGERS, _STRANGERS)
        self._open_bodies = Lane(STRANGERS, _STRANGERS)
        self._budget = BodyBudget()
        self._threads = Shares(USER_THREADS, USER_WAITING_REQUESTS, _OWN_REQUESTS)

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        headers = dict(scope["headers"])
        matched = self._rules.of(scope)
        most = MAX_OPEN_BODY_BYTES if matched is None else matched[0].most_bytes
        body = Body(headers, receive, most, self._idle_s)
        respond = _responding(body, send)
        async with AsyncExitStack() as held:
            held.callback(body.release)
            try:
                if matched is not None:
                    scope["route"] = matched[0].route
                    await self._admit(scope, headers, body, held, *matched)
            except Exception as error:
                response = problems.response_to(Request(scope), error)
                await response(scope, body.receive, respond)
                return
            await self.app(scope, body.receive, respond)

    async def _admit(
        self,
        scope: Scope,
        headers: Headers,
        body: Body,
        held: AsyncExitStack,
        rule: Rule,
        named: Mapping[str, str],
    ) -> None:
        """Check what is shown. Raises: a refusal, see `problems`."""
        _check_query(scope["query_string"])
        address, holder = _address(scope), ""
        match rule.credential:
            case Credential.USER | Credential.OPERATOR:
                name = await self._admit_user(scope, rule, address)
            case Credential.ATTEMPT:
                name = f"attempt {named['task_id']}"
                token = headers.get(b"authorization", b"").removeprefix(b"Bearer ")
                check_token(self._rt, named["task_id"], named["attempt"], token)
            case Credential.MACHINE:
                name = address
                if await self._knows_machine(headers, address):
                    # Machines may share an address, each has its own part of the threads.
                    holder = f"machine {headers[_MACHINE_ID].decode('latin-1')}"
                else:
                    if not rule.may_be_repeated:
                        raise Forbidden("This machine is not, or no longer, let in.")
                    held.enter_context(self._open_bodies.entered(address))
            case _:
                # Signed URLs are checked by their routes, which read nothing before.
                name = address
                if body.is_announced and not rule.is_file:
                    held.enter_context(self._open_bodies.entered(address))
        body.admit(rule, name, self._budget)
        # Not files: a slow reader of one needs a thread now and then only.
        if rule.is_threaded and not rule.is_file:
            await held.enter_async_context(self._threads.held(holder or name))

    async def _admit_user(self, scope: Scope, rule: Rule, address: str) -> str:
        """The id of the user whose key it is. Raises HTTPException, Forbidden."""
        key = _key(scope)
        user = await self._user_of(key, address)
        if user.disabled_at is not None:
            raise HTTPException(
                401, f"X-API-Key: the account {user.username!r} is disabled. Ask an operator."
            )
        logs.note(user=user.id)
        if wait := self._requests.take(user.id):
            raise too_many(
                429,
                f"Your requests are more than {self._rt.settings.user_requests_per_s:g} a "
                "second. Ask again later; POST /v1/tasks/batch submits many tasks at once.",
                wait,
            )
        if rule.credential is Credential.OPERATOR and not user.is_operator:
            raise Forbidden("Only operators may do this; your key is not one of theirs.")
        scope.setdefault("state", {})["user"] = user
        return user.id

    async def _user_of(self, key: str, address: str) -> User:
        name = key_digest(key)
        with ExitStack() as held:
            if name not in self._known:
                if wait := self._failures.wait_s(address):
                    raise too_many(429, "X-API-Key: too many wrong keys from this address.", wait)
                held.enter_context(self._strangers.entered(address))
            user = await run_in_threadpool(read, self._rt, user_of_key, key)
        if user is None:
            self._known.discard(name)
            self._failures.take(address)
            raise HTTPException(401, "X-API-Key: the key is not known, has expired or was revoked.")
        self._known.add(name)
        return user

    async def _knows_machine(self, headers: Headers, address: str) -> bool:
        if _MACHINE_ID not in headers or _SECRET not in headers:
            raise HTTPException(
                401, f"{MACHINE_HEADER}, {SECRET_HEADER}: only machines that have joined may ask."
            )
        machine_id, secret = (headers[n].decode("latin-1") for n in (_MACHINE_ID, _SECRET))
        if wait := self._failures.wait_s(address):
            raise too_many(429, f"{SECRET_HEADER}: too many wrong secrets from this address.", wait)
        if await run_in_threadpool(_is_machine, self._rt, machine_id, secret):
            return True
        self._failures.take(address)
        return False


def _is_machine(rt: Runtime, machine_id: str, secret: str) -> bool:
    if not machine_id.isprintable():
        return False
    with rt.store.read() as session:
        try:
            known_machine(session, machine_id, secret)
        except Forbidden:
            return False
    return True


def _key(scope: Scope) -> str:
    """The key that came with a request. Raises HTTPException."""
    keys = [value for name, value in scope["headers"] if name == b"x-api-key"]
    if not keys or not keys[0]:
        raise HTTPException(401, "X-API-Key: no key was sent. `simherd auth login` stores one.")
    key = str(keys[0].decode("latin-1"))
    if len(keys) > 1:
        raise HTTPException(400, "X-API-Key: it was sent more than once. Send one key.")
    if len(key) > MAX_KEY_CHARACTERS or not (key.isascii() and key.isprintable()):
        raise HTTPException(
            400,
            f"X-API-Key: a key has at most {MAX_KEY_CHARACTERS} characters, all of them "
            "printable ASCII.",
        )
    return key


def _check_query(query: bytes) -> None:
    """Refuse what does not belong into a URL. Raises HTTPException."""
    if query.count(b"&") >= MAX_QUERY_PARAMETERS:
        raise HTTPException(
            422,
            f"query: it has more than {MAX_QUERY_PARAMETERS} parameters. Send several requests.",
        )
    for pair in query.split(b"&"):
        # As the routes read it: percent-encoded or not, it is the same name.
        name = unquote_plus(pair.partition(b"=")[0].decode("latin-1"))
        if name.strip().lower() in _KEY_NAMES:
            raise HTTPException(
                400,
                f"{name}: a key does not belong into a URL, which others log. Send it in the "
                "header X-API-Key, and have this key revoked.",
            )


def _address(scope: Scope) -> str:
    client = scope.get("client")
    return str(client[0]) if client else ""


def _responding(body: Body, send: Send) -> Send:
    """Return a `send` that closes the connection of a request refused before its body was read."""
    lingers = False

    async def respond(message: Message) -> None:
        nonlocal lingers
        if message["type"] == "http.response.start":
            lingers = not body.is_read and message["status"] >= 400
            if lingers:
                others = [pair for pair in message["headers"] if pair[0].lower() != b"connection"]
                message["headers"] = [*others, (b"connection", b"close")]
        elif lingers and not message.get("more_body"):
            # The response is complete for the client; the connection ends with the last message.
            await send({**message, "more_body": True})
            body.release()
            await body.discard()
            message = {"type": "http.response.body", "body": b"", "more_body": False}
        await send(message)

    return respond
