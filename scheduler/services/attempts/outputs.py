"""The storage of one attempt, as far as the executor that holds it may use it."""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from scheduler.domain.limits import EXECUTOR_URL_S
from scheduler.objects.base import NoSuchObject, PartsRefused
from scheduler.services.attempts.checkpoints import add_generation, generations
from scheduler.services.errors import Conflict, Forbidden, Invalid, ResourceNotFound
from scheduler.store.models import TaskRow
from simherd.contract import limits, objects
from simherd.contract.attempt_spec import attempt_key
from simherd.contract.lifecycle import TERMINAL
from simherd.contract.upload_grant import Grant

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scheduler.objects.base import Part
    from scheduler.wiring import Runtime
    from simherd.contract.checkpoints import SavedFile

#: The route for executors; the attempt's task and number follow.
ROUTE = "/v1/attempts"
_NO_UPLOAD = "upload: there is no such upload, or it has ended."


def grant_of(rt: Runtime, task_id: str, attempt: int) -> Grant:
    """Return the grant with which an executor stores outputs while the attempt is current."""
    base = rt.settings.api_url_of_machines
    return Grant(f"{base}{ROUTE}/{task_id}/{attempt}", _token(rt, task_id, attempt))


def _token(rt: Runtime, task_id: str, attempt: int) -> str:
    key = rt.settings.signing_key.get_secret_value().encode()
    text = f"grant\n{attempt_key(task_id, attempt)}"
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


def check_token(rt: Runtime, task_id: str, attempt: str | int, token: bytes) -> None:
    """Check that a token is this attempt's, without reading SQL. Raises Forbidden."""
    number = str(attempt)
    is_number = number.isascii() and number.isdigit() and len(number) < 10
    expected = _token(rt, task_id, int(number)).encode() if is_number else b""
    if not is_number or not hmac.compare_digest(expected, token):
        raise Forbidden("Authorization: the token is not this attempt's.")


class AttemptOutputs:
    """One attempt's outputs. An attempt that is over must not store any more."""

    def __init__(
        self, rt: Runtime, task_id: str, attempt: int, token: str, *, fenced: bool = True
    ) -> None:
        """`fenced`: refuse an attempt that is not current.

        Raises:
            Forbidden: the token is not this attempt's.
            ResourceNotFound: there is no such task.
            Conflict: the attempt is no longer current.
        """
        check_token(rt, task_id, attempt, token.encode())
        self._store = rt.store
        with rt.store.read() as session:
            task = session.scalar(select(TaskRow).where(TaskRow.id == task_id))
        if task is None:
            raise ResourceNotFound(f"There is no task {task_id!r}.")
        if fenced and (task.attempt != attempt or task.status in TERMINAL):
            raise Conflict(f"Attempt {attempt} of task {task_id} is over. Stop it.")
        self._objects = rt.objects
        self._task = task
        self._attempt = attempt

    def _path(self, name: str) -> str:
        """Return the path under which an object with an executor's name for it is stored."""
        prefix, task_id = self._task.storage_prefix, self._task.id
        if name == objects.OUTPUT:
            return objects.output_path(prefix, task_id, self._attempt)
        if name == objects.MANIFEST:
            return objects.manifest_path(prefix, task_id, self._attempt)
        if name.startswith(objects.LIVE_SLICE):
            return objects.live_slice_path(prefix, task_id, self._attempt, name)
        digest = name.removeprefix(objects.CHECKPOINT_FILE)
        return f"{objects.checkpoint_dir(prefix, task_id)}/{digest}"

    def urls(self, names: Sequence[str]) -> dict[str, str]:
        """Return new signed URLs for storing each of these in one request."""
        user, valid = self._task.user_id, EXECUTOR_URL_S
        return {name: self._objects.sign(user, self._path(name), "upload", valid) for name in names}

    def stored_size(self, name: str) -> int:
        """Return the size of a stored object, bytes. Raises ResourceNotFound."""
        stat = self._objects.stat(self._task.user_id, self._path(name))
        if stat is None:
            raise ResourceNotFound(f"object: {name!r} is not stored.")
        return stat.size

    def begin(self, name: str) -> str:
        """Begin an upload in parts; return its id."""
        return self._objects.begin_upload(self._task.user_id, self._path(name))

    def part_url(self, name: str, upload: str, number: int) -> str:
        """Return the URL for one part of an upload. Raises ResourceNotFound."""
        try:
            return self._objects.sign_part(
                self._task.user_id, self._path(name), upload, number, limits.USER_URL_S
            )
        except NoSuchObject as error:
            raise ResourceNotFound(_NO_UPLOAD) from error

    def complete(self, name: str, upload: str, parts: Sequence[Part]) -> int:
        """Make an object of the parts; return its stored size, bytes.

        Raises:
            ResourceNotFound: there is no such upload.
            Invalid: the parts are not those that were stored.
        """
        try:
            return self._objects.complete_upload(
                self._task.user_id, self._path(name), upload, parts
            )
        except NoSuchObject as error:
            raise ResourceNotFound(_NO_UPLOAD) from error
        except PartsRefused as error:
            raise Invalid(f"parts: the storage refuses them: {error}.") from error

    def abort(self, name: str, upload: str) -> None:
        """Abort an upload in parts."""
        self._objects.abort_upload(self._task.user_id, self._path(name), upload)

    def drop_slice(self, name: str) -> None:
        """Delete a slice of a live file that was not fetched. Raises Invalid."""
        if not name.startswith(objects.LIVE_SLICE):
            raise Invalid(f"object: {name!r} is not a slice of a live file, so it is not deleted.")
        self._objects.delete(self._task.user_id, self._path(name))

    def save_checkpoint(self, files: Sequence[SavedFile]) -> int:
        """Add a generation whose files are all stored; return its number.

        Generations older than the newest `KEPT` are dropped, with the files that only they name.

        Raises Invalid: a file is not stored, or not in full.
        """
        names = {file.sha256: file.size for file in files}
        for digest, size in names.items():
            stat = self._objects.stat(
                self._task.user_id, self._path(objects.CHECKPOINT_FILE + digest)
            )
            if stat is None or stat.size != size:
                raise Invalid(f"files: {digest} is not stored with its {size} bytes.")
        with self._store.write() as session:
            number, dropped = add_generation(session, self._task.id, self._attempt, files)
        for digest in dropped:
            path = self._path(objects.CHECKPOINT_FILE + digest)
            self._objects.delete(self._task.user_id, path)
        return number

    def checkpoints(self) -> list[dict[str, Any]]:
        """Return the generations, newest first; each file has a URL from which to fetch it."""
        user, valid = self._task.user_id, EXECUTOR_URL_S
        with self._store.read() as session:
            rows = generations(session, self._task.id)
        return [
            {
                "generation": row.generation,
                "files": [
                    {
                        **file,
                        "url": self._objects.sign(
                            user,
                            self._path(objects.CHECKPOINT_FILE + file["sha256"]),
                            "download",
                            valid,
                        ),
                    }
                    for file in row.files
                ],
            }
            for row in rows
        ]
