"""Which credential each route takes, as its dependencies and parameters say."""

from __future__ import annotations

import inspect
from collections import defaultdict
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

from fastapi.routing import APIRoute

from scheduler.api.deps import get_operator, get_user
from scheduler.api.edge.limits import MAX_OPEN_BODY_BYTES
from scheduler.api.routes.attempts import CHECKPOINT_VERB, get_outputs
from scheduler.api.routes.batches import BATCH
from scheduler.api.routes.machines import SECRET_VERB
from scheduler.api.routes.storage import EXPORT_VERB
from scheduler.domain.limits import MAX_INPUT_BYTES
from simherd.contract.join import SECRET_HEADER

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, MutableMapping

    from fastapi import APIRouter

#: Largest JSON request body, bytes.
MAX_BODY_BYTES = 1024 * 1024
#: Largest one that lists a checkpoint's files, bytes.
MAX_CHECKPOINT_BODY_BYTES = 16 * 1024 * 1024
#: The most tasks that one request submits, and its largest body, bytes.
MAX_BATCH_BODY_BYTES = 16 * 1024 * 1024
#: Largest one that lists the part URLs of an export, bytes: 10,000 parts, with signatures.
MAX_EXPORT_BODY_BYTES = 32 * 1024 * 1024


class Credential(Enum):
    """What a request must show."""

    NONE = "nothing"
    USER = "a user's key"
    OPERATOR = "an operator's key"
    MACHINE = "a machine's secret"
    ATTEMPT = "an attempt's token"
    SIGNATURE = "a signed URL"


#: The largest bodies, by how their routes' paths end: lists that are as long as there are files of
#: a checkpoint, or parts of an export.
_LONG_BODIES = {
    CHECKPOINT_VERB: MAX_CHECKPOINT_BODY_BYTES,
    EXPORT_VERB: MAX_EXPORT_BODY_BYTES,
    BATCH: MAX_BATCH_BODY_BYTES,
}


@dataclass(frozen=True)
class Rule:
    """What holds for a route's requests."""

    route: APIRoute
    credential: Credential
    #: Bytes of the largest body.
    most_bytes: int

    @property
    def is_file(self) -> bool:
        """Whether the body is a file, which is streamed to where it is stored."""
        return self.credential is Credential.SIGNATURE

    @property
    def is_threaded(self) -> bool:
        """Whether the route's function runs in a thread: those that are coroutines do not."""
        return not inspect.iscoroutinefunction(self.route.endpoint)

    @property
    def may_be_repeated(self) -> bool:
        """Whether a machine may ask again with a secret that its first request has replaced."""
        return self.route.path.endswith(SECRET_VERB)


def credential_of(route: APIRoute) -> Credential:
    """What a route's requests must show."""
    calls = set(_calls(route.dependant))
    if get_operator in calls:
        return Credential.OPERATOR
    if get_user in calls:
        return Credential.USER
    if get_outputs in calls:
        return Credential.ATTEMPT
    if SECRET_HEADER in {field.alias for field in route.dependant.header_params}:
        return Credential.MACHINE
    if "signature" in {field.alias for field in route.dependant.query_params}:
        return Credential.SIGNATURE
    return Credential.NONE


def _calls(dependant: Any) -> Iterator[Any]:
    for dependency in dependant.dependencies:
        yield dependency.call
        yield from _calls(dependency)


def _rule(route: APIRoute) -> Rule:
    credential = credential_of(route)
    if credential is Credential.SIGNATURE:
        return Rule(route, credential, MAX_INPUT_BYTES)
    if credential in (Credential.NONE, Credential.MACHINE):
        return Rule(route, credential, MAX_OPEN_BODY_BYTES)
    ends = (size for verb, size in _LONG_BODIES.items() if route.path.endswith(verb))
    return Rule(route, credential, next(ends, MAX_BODY_BYTES))


class Rules:
    """The rules of all routes; each request has the one of the route that will take it."""

    def __init__(self, routers: Iterable[APIRouter]) -> None:
        # By the first segment: a look at all of them would cost as much as routing does.
        self._by_start: dict[str, list[Rule]] = defaultdict(list)
        for router in routers:
            for route in router.routes:
                assert isinstance(route, APIRoute), f"{route!r}: what does it take?"
                start = _start(route.path)
                assert "{" not in start, f"{route.path}: a path begins with a word"
                self._by_start[start].append(_rule(route))

    def __iter__(self) -> Iterator[Rule]:
        for rules in self._by_start.values():
            yield from rules

    def of(self, scope: MutableMapping[str, Any]) -> tuple[Rule, dict[str, str]] | None:
        """The rule and the path's parameters; None where no route takes the request."""
        for rule in self._by_start.get(_start(scope["path"]), ()):
            match = rule.route.path_regex.match(scope["path"])
            if match is not None and scope["method"] in (rule.route.methods or ()):
                return rule, match.groupdict()
        return None


def _start(path: str) -> str:
    return path[1:].partition("/")[0]
