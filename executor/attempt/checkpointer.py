"""Saving the files that a simulation can continue from, while it runs and when it is stopped.

Files are sent under the SHA-256 of their content, so a generation costs what has changed since the
previous one. A generation holds every file as it was at one moment; while files are being written,
none is saved.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import threading
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Protocol

from executor.archive.stamps import Stamp, snapshot, stamp_of
from executor.attempt.errors import Stopped
from executor.files.confined import file_at
from executor.transfer.client import TransferClient, TransferFailed
from executor.transfer.multipart_upload import MultipartUpload
from simherd.contract.checkpoints import FOLDER, KEPT, MOST_FILES, SavedFile, total_bytes
from simherd.contract.objects import CHECKPOINT_FILE, normalise
from simherd.contract.operations import Operation
from simherd.runtime.logs import in_context

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from simherd.contract.attempt_spec import AttemptSpec
    from simherd.contract.checkpoints import Checkpoints

log = logging.getLogger(__name__)

#: Seconds without a change after which files are saved, and how often that is waited for.
_STABLE_S, _STABLE_TRIES = 1.0, 30
_CHUNK = 1024 * 1024


class FileChanged(Exception):
    """A file was written to while it was saved."""


class CheckpointedAttempt(Protocol):
    """An attempt, as its checkpointer sees it."""

    @property
    def spec(self) -> AttemptSpec: ...
    @property
    def work(self) -> Path: ...
    @property
    def transfer(self) -> TransferClient: ...

    def operation(self, name: Operation) -> AbstractContextManager[dict[str, Any]]:
        """Time an operation."""


class Checkpointer:
    """Saves one attempt's generations: within a `with` block every so often, and on demand."""

    def __init__(self, attempt: CheckpointedAttempt, checkpoints: Checkpoints) -> None:
        self._attempt = attempt
        self._checkpoints = checkpoints
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        #: Path → stamp and SHA-256 of a saved file; and the files of the newest generations.
        self._known: dict[str, tuple[Stamp, str]] = {}
        self._stored: list[list[SavedFile]] = []

    def __enter__(self) -> Checkpointer:
        self._over.clear()
        name = f"checkpoints-{self._attempt.spec.key}"
        self._thread = threading.Thread(target=in_context(self._run), name=name)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._thread is not None
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(self._checkpoints.every_s):
            try:
                self._save_when_stable()
            except Stopped:
                return
            except (FileChanged, TransferFailed, OSError) as error:
                # The simulation goes on, and the previous generation stays.
                log.warning("event=not_saved attempt=%s error=%s", self._attempt.spec.key, error)

    def _save_when_stable(self) -> None:
        before = self._list_files()
        for _ in range(_STABLE_TRIES):
            if self._over.wait(_STABLE_S):
                return
            now = self._list_files()
            if now == before:
                self.save(now)
                return
            before = now
        log.warning("event=never_stable attempt=%s", self._attempt.spec.key)

    def save_now(self) -> int | None:
        """Save the files after the commands have ended; returns the generation, or None.
        Raises TransferFailed: it could not be stored; OSError: it could not be read."""
        try:
            return self.save(self._list_files())
        except FileChanged as error:
            raise OSError(f"a file of the checkpoint changes: {error}") from error

    def _list_files(self) -> dict[str, Stamp]:
        """Return the files that belong to a checkpoint, as they are now."""
        return snapshot(
            self._attempt.work,
            lambda path: _can_be_named(path) and self._checkpoints.matches(path),
        )

    def save(self, files: dict[str, Stamp]) -> int | None:
        """Store these files as a generation; returns its number, or None if nothing has changed.

        Raises:
            FileChanged: one of them has changed since it was listed.
            TransferFailed, OSError, Stopped: it could not be stored.
        """
        if not files or len(files) > MOST_FILES:
            if files:
                log.error("event=too_many_files attempt=%s", self._attempt.spec.key)
            return None
        if self._stored and {f.path: f.sha256 for f in self._stored[-1]} == {
            path: self._known[path][1]
            for path, stamp in files.items()
            if path in self._known and self._known[path][0] == stamp
        }:
            return None
        with self._attempt.operation(Operation.SAVE_CHECKPOINT) as result:
            saved_files = self._send(files)
            rows = [asdict(file) for file in saved_files]
            number = self._attempt.transfer.save_checkpoint(self._attempt.spec.grant, rows)
            size = total_bytes(saved_files)
            result |= {"generation": number, "files": len(saved_files), "bytes": size}
        self._stored = [*self._stored, saved_files][-KEPT:]
        log.info("event=checkpoint_saved attempt=%s %s", self._attempt.spec.key, result)
        return number

    def _send(self, files: dict[str, Stamp]) -> list[SavedFile]:
        saved_files = []
        stored = {file.sha256 for generation in self._stored for file in generation}
        for folder, _, names, descriptor in os.fwalk(self._attempt.work):
            for name in names:
                path = os.path.relpath(os.path.join(folder, name), self._attempt.work)
                if path in files:
                    file = self._send_one(name, descriptor, path, files[path], stored)
                    stored.add(file.sha256)
                    saved_files.append(file)
        if len(saved_files) != len(files):
            raise FileChanged("a file was removed")
        return saved_files

    def _send_one(
        self, name: str, folder: int, path: str, stamp: Stamp, stored: set[str]
    ) -> SavedFile:
        with file_at(name, folder) as file:
            info = os.fstat(file.fileno())
            if stamp_of(info) != stamp:
                raise FileChanged(path)
            known = self._known.get(path)
            if known is not None and known[0] == stamp:
                digest = known[1]
            else:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            if digest not in stored:
                file.seek(0)
                sent = hashlib.sha256()
                with _uploading(self._attempt, digest) as upload:
                    while data := file.read(_CHUNK):
                        sent.update(data)
                        upload.write(data)
                    if sent.hexdigest() != digest:
                        raise FileChanged(path)
                    upload.finish()
            if stamp_of(os.fstat(file.fileno())) != stamp:
                raise FileChanged(path)
        self._known[path] = (stamp, digest)
        return SavedFile(path, stamp.size, info.st_mode & 0o7777, stamp.mtime_ns, digest)


@contextlib.contextmanager
def _uploading(attempt: CheckpointedAttempt, digest: str) -> Iterator[MultipartUpload]:
    """Upload one file; the upload is aborted if the block raises."""
    transfer, grant, name = attempt.transfer, attempt.spec.grant, CHECKPOINT_FILE + digest
    upload_ids: list[str] = []
    url = transfer.urls(grant, [name])[name]
    upload = MultipartUpload(transfer, grant, name, url, upload_ids.append)
    try:
        with contextlib.closing(upload):
            yield upload
    except BaseException:
        for upload_id in upload_ids:
            try:
                transfer.abort(grant, name, upload_id)
            except (TransferFailed, Stopped) as error:
                log.warning("event=upload_left upload=%s error=%s", upload_id, error)
        raise


def _can_be_named(path: str) -> bool:
    """Whether a file's name can be stored and restored unchanged."""
    try:
        return normalise(path) == path
    except ValueError:
        return False


def make_folder(work: Path) -> None:
    """Make the folder for checkpoints in the work folder.
    Raises FileExistsError: the inputs hold a file of its name."""
    folder = work / FOLDER
    if folder.is_symlink():
        raise FileExistsError(folder)
    folder.mkdir(exist_ok=True)
