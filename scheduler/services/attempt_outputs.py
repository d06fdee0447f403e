"""What an executor may do with the storage for an attempt that it holds."""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING

from sqlalchemy import select

from scheduler.objects.base import NoSuchObject
from scheduler.services.errors import Conflict, Forbidden, NotFound
from scheduler.store.models import Task
from simherd.contract import limits, objects
from simherd.contract.lifecycle import TERMINAL
from simherd.contract.spec import attempt_key
from simherd.contract.uploads import Grant

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scheduler.objects.base import Part
    from scheduler.wiring import Parts

#: Route under which an executor asks; the attempt's task and number follow.
ROUTE = "/v1/attempts"


def grant_of(parts: Parts, task_id: str, attempt: int) -> Grant:
    """What lets an executor store the outputs of this attempt, for as long as it is current."""
    base = parts.settings.public_url.rstrip("/")
    return Grant(f"{base}{ROUTE}/{task_id}/{attempt}", _token(parts, task_id, attempt))


def _token(parts: Parts, task_id: str, attempt: int) -> str:
    key = parts.settings.signing_key.get_secret_value().encode()
    text = f"grant\n{attempt_key(task_id, attempt)}"
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


class AttemptOutputs:
    """One attempt's outputs. An attempt that is over, or another machine's, may store no more."""

    def __init__(
        self, parts: Parts, task_id: str, attempt: int, token: str, *, fenced: bool = True
    ) -> None:
        """`fenced`: only for the current attempt.

        Raises:
            Forbidden: the token is not this attempt's.
            NotFound: there is no such task.
            Conflict: the attempt is no longer current.
        """
        if not hmac.compare_digest(_token(parts, task_id, attempt), token):
            raise Forbidden("Authorization: the token is not this attempt's.")
        with parts.store.read() as session:
            task = session.scalar(select(Task).where(Task.id == task_id))
        if task is None:
            raise NotFound(f"There is no task {task_id!r}.")
        if fenced and (task.attempt != attempt or task.status in TERMINAL):
            raise Conflict(f"Attempt {attempt} of task {task_id} is over. Stop it.")
        self._objects = parts.objects
        self._user = task.user_id
        self._paths = {
            "output": objects.output_path(task.storage_prefix, task_id, attempt),
            "manifest": objects.manifest_path(task.storage_prefix, task_id, attempt),
        }
        self._path = self._paths["output"]

    def urls(self) -> dict[str, str]:
        """New signed URLs for storing the outputs and their manifest whole."""
        valid = limits.EXECUTOR_URL_S
        return {
            name: self._objects.sign(self._user, path, "upload", valid)
            for name, path in self._paths.items()
        }

    def stored_size(self) -> int:
        """The size of the stored outputs, bytes. Raises NotFound."""
        found = self._objects.stat(self._user, self._path)
        if found is None:
            raise NotFound("The outputs are not stored.")
        return found.size

    def begin(self) -> str:
        """Begin an upload in parts; answers its id."""
        return self._objects.begin_upload(self._user, self._path)

    def part_url(self, upload: str, number: int) -> str:
        """Where to send a part of it."""
        return self._objects.sign_part(self._user, self._path, upload, number, limits.USER_URL_S)

    def complete(self, upload: str, parts: Sequence[Part]) -> int:
        """Make the outputs of the parts; answers their stored size, bytes. Raises NotFound."""
        try:
            return self._objects.complete_upload(self._user, self._path, upload, parts)
        except NoSuchObject as error:
            raise NotFound("upload: there is no such upload, or no longer.") from error

    def abort(self, upload: str) -> None:
        """Forget an upload in parts."""
        self._objects.abort_upload(self._user, self._path, upload)
