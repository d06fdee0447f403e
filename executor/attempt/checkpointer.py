"""Saving the files that a simulation can go on from, while it runs and when it is stopped.

Files are sent under the SHA-256 of their content, so a generation costs what has changed since the
one before. What is still being written is left for later: a generation holds every file as it was
at one moment, or it is none.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import stat
import threading
from dataclasses import asdict
from typing import TYPE_CHECKING

from executor.archive.stamps import Stamp, stamp_of
from executor.attempt.errors import Stopped
from executor.transfer.client import TransferFailed
from executor.transfer.multipart_upload import MultipartUpload
from simherd.contract.checkpoints import FOLDER, KEPT, MOST_FILES, SavedFile, total_bytes
from simherd.contract.objects import CHECKPOINT_FILE, normalise
from simherd.contract.operations import Operation
from simherd.runtime.logs import in_context

if TYPE_CHECKING:
    from executor.attempt.context import Attempt
    from simherd.contract.checkpoints import Checkpoints

log = logging.getLogger(__name__)

#: Seconds for which nothing may have changed, and how often that is waited for.
_STABLE_S, _STABLE_TRIES = 1.0, 30
_CHUNK = 1024 * 1024
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class FileChanged(Exception):
    """A file was written to while it was saved."""


class Checkpointer:
    """Saves one attempt's generations: within a `with` block every so often, and on demand."""

    def __init__(self, attempt: Attempt, wanted: Checkpoints) -> None:
        self._attempt = attempt
        self._wanted = wanted
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        #: SHA-256 of files whose stamp is known, and what the newest generations hold.
        self._known: dict[str, tuple[Stamp, str]] = {}
        self._stored: list[list[SavedFile]] = []

    def __enter__(self) -> Checkpointer:
        self._over.clear()
        name = f"saver-{self._attempt.spec.key}"
        self._thread = threading.Thread(target=in_context(self._run), name=name)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._thread is not None
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(self._wanted.every_s):
            try:
                self._save_when_stable()
            except Stopped:
                return
            except (FileChanged, TransferFailed, OSError) as error:
                # The simulation goes on, and so does the one before.
                log.warning("event=not_saved attempt=%s error=%s", self._attempt.spec.key, error)

    def _save_when_stable(self) -> None:
        before = self._look()
        for _ in range(_STABLE_TRIES):
            if self._over.wait(_STABLE_S):
                return
            now = self._look()
            if now == before:
                self.save(now)
                return
            before = now
        log.warning("event=never_stable attempt=%s", self._attempt.spec.key)

    def save_now(self) -> int | None:
        """Save what is there, when nothing of the simulation runs; answers the generation.

        Raises:
            TransferFailed: it could not be stored.
            OSError: it could not be read.
        """
        try:
            return self.save(self._look())
        except FileChanged as error:
            raise OSError(f"a file of the checkpoint changes: {error}") from error

    def _look(self) -> dict[str, Stamp]:
        """The files that belong to a checkpoint, as they are now."""
        found: dict[str, Stamp] = {}
        for folder, _, names, descriptor in os.fwalk(self._attempt.work):
            for name in names:
                path = _relative(self._attempt, folder, name)
                if not (_can_be_named(path) and self._wanted.matches(path)):
                    continue
                # Temporary files come and go.
                with contextlib.suppress(FileNotFoundError):
                    info = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
                    if stat.S_ISREG(info.st_mode):
                        found[path] = stamp_of(info)
        return found

    def save(self, looked: dict[str, Stamp]) -> int | None:
        """Store these files as a generation; answers its number, None if there is nothing new.

        Raises:
            Changed: one of them is not as it was looked at.
            TransferFailed, OSError, Stopped: it could not be.
        """
        if not looked or len(looked) > MOST_FILES:
            if looked:
                log.error("event=too_many_files attempt=%s", self._attempt.spec.key)
            return None
        if self._stored and {f.path: f.sha256 for f in self._stored[-1]} == {
            path: self._known[path][1]
            for path, stamp in looked.items()
            if path in self._known and self._known[path][0] == stamp
        }:
            return None
        with self._attempt.operation(Operation.SAVE_CHECKPOINT) as learnt:
            files = self._send(looked)
            rows = [asdict(file) for file in files]
            number = self._attempt.transfer.save_checkpoint(self._attempt.spec.grant, rows)
            learnt |= {"generation": number, "files": len(files), "bytes": total_bytes(files)}
        self._stored = [*self._stored, files][-KEPT:]
        log.info("event=checkpoint_saved attempt=%s %s", self._attempt.spec.key, learnt)
        return number

    def _send(self, looked: dict[str, Stamp]) -> list[SavedFile]:
        files = []
        stored = {file.sha256 for generation in self._stored for file in generation}
        for folder, _, names, descriptor in os.fwalk(self._attempt.work):
            for name in names:
                path = _relative(self._attempt, folder, name)
                if path in looked:
                    file = self._send_one(name, descriptor, path, looked[path], stored)
                    stored.add(file.sha256)
                    files.append(file)
        if len(files) != len(looked):
            raise FileChanged("a file was removed")
        return files

    def _send_one(
        self, name: str, folder: int, path: str, stamp: Stamp, stored: set[str]
    ) -> SavedFile:
        with open(os.open(name, _READ, dir_fd=folder), "rb") as file:
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


class _uploading:  # reads as the statement that it is
    """An upload of one file that is given up when it goes wrong."""

    def __init__(self, attempt: Attempt, digest: str) -> None:
        self._attempt = attempt
        self._name = CHECKPOINT_FILE + digest
        self._id: str | None = None

    def __enter__(self) -> MultipartUpload:
        transfer, grant = self._attempt.transfer, self._attempt.spec.grant
        url = transfer.urls(grant, [self._name])[self._name]
        self._upload = MultipartUpload(transfer, grant, self._name, url, self._begun)
        return self._upload

    def _begun(self, upload: str) -> None:
        self._id = upload

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._upload.close()
        if kind is not None and self._id is not None:
            try:
                self._attempt.transfer.abort(self._attempt.spec.grant, self._name, self._id)
            except (TransferFailed, Stopped) as error:
                log.warning("event=upload_left upload=%s error=%s", self._id, error)


def _can_be_named(path: str) -> bool:
    """Whether a file's name can be told, and is put back as the same one."""
    try:
        return normalise(path) == path
    except ValueError:
        return False


def _relative(attempt: Attempt, folder: str, name: str) -> str:
    inside = os.path.relpath(folder, attempt.work)
    return name if inside == "." else f"{inside}/{name}"


def make_folder(attempt: Attempt) -> None:
    """Have the folder that simulations may write their checkpoints to.

    Raises:
        FileExistsError: the inputs hold something else of its name.
    """
    folder = attempt.work / FOLDER
    if folder.is_symlink():
        raise FileExistsError(folder)
    folder.mkdir(exist_ok=True)
