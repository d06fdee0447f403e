"""Packing and storing the outputs in one pass, and checking that they arrived."""

from __future__ import annotations

import contextlib
import threading
from typing import IO, TYPE_CHECKING, cast

from executor.archive import PackOptions, PackResult, pack
from executor.archive.manifest import OutputManifest
from executor.attempt.errors import StageFailed, Stopped
from executor.transfer.client import TransferFailed
from executor.transfer.multipart_upload import MultipartUpload
from simherd.contract.cause import Cause
from simherd.contract.objects import MANIFEST, OUTPUT, OUTPUT_ROOT, SYSTEM_METRICS
from simherd.contract.operations import Metric, Operation

if TYPE_CHECKING:
    from executor.attempt.context import Attempt

#: Notes of the packing that the history shows; the manifest has all of them.
_NOTES_SHOWN = 20


def upload_outputs(attempt: Attempt) -> None:
    """Store the outputs of an attempt that has ended.

    A kill or a time limit now waits for the outputs; a lost lease does not.

    Raises:
        StageFailed: the outputs could not be packed or stored.
        Stopped: the outputs are not wanted any more.
    """
    switch = attempt.switch

    def pause(seconds: float) -> None:
        if switch.without_outputs:
            switch.check()
        timetable = attempt.state.timetable
        if timetable is not None:
            timetable.pause(switch)(seconds)
        elif seconds:
            threading.Event().wait(seconds)

    with attempt.paused_by(pause):
        store_outputs(attempt)
    attempt.state.saved["outputs"] = True


def store_outputs(attempt: Attempt) -> None:
    """Store what the commands created or changed, and check that it arrived.

    Raises:
        StageFailed: the outputs could not be packed or stored.
        Stopped: the outputs are not wanted any more.
    """
    try:
        with OutputManifest(attempt.config.state_dir) as manifest, _Uploading(attempt) as uploading:
            packed = _pack(attempt, uploading.upload, manifest)
            uploading.begin()
            stored = uploading.upload.finish()
            if stored != packed.zipped_bytes:
                detail = f"{packed.zipped_bytes} bytes of outputs were sent, {stored} are stored."
                raise StageFailed(Cause.UPLOAD_FAILED, detail)
            spec = attempt.spec
            text = manifest.finish(packed)
            attempt.transfer.put(spec.grant, MANIFEST, spec.manifest_put_url, text)
    except TransferFailed as error:
        detail = f"The outputs were not stored: {error}"
        raise StageFailed(Cause.UPLOAD_FAILED, detail) from error
    except OSError as error:
        detail = f"The outputs could not be packed: {error}"
        raise StageFailed(Cause.UPLOAD_FAILED, detail) from error


def _pack(attempt: Attempt, out: MultipartUpload, manifest: OutputManifest) -> PackResult:
    options = PackOptions(
        unchanged=attempt.state.inputs,
        compress=attempt.spec.compress,
        extra={SYSTEM_METRICS: attempt.series} if attempt.series.exists() else {},
        list_entry=manifest.add,
        workers=max(1, attempt.config.vcpus),
    )
    with attempt.operation(Operation.COMPRESS_OUTPUT, Metric.OUTPUT_COMPRESSION_SECONDS) as result:
        packed = pack(attempt.work, cast("IO[bytes]", out), options, prefix=f"{OUTPUT_ROOT}/")
        result["notes"] = list(packed.notes[:_NOTES_SHOWN])
    attempt.report_metrics(
        **{
            Metric.OUTPUT_TOTAL_FILES.value: packed.files,
            Metric.OUTPUT_SIZE_BYTES.value: packed.bytes,
            Metric.OUTPUT_ZIPPED_SIZE_BYTES.value: packed.zipped_bytes,
        }
    )
    return packed


class _Uploading:
    """The upload as an operation of the task's history: it begins with the first byte sent."""

    def __init__(self, attempt: Attempt) -> None:
        self._attempt = attempt
        self._operation = contextlib.ExitStack()
        self._began = False
        self._id: str | None = None
        spec = attempt.spec
        self.upload = MultipartUpload(
            attempt.transfer, spec.grant, OUTPUT, spec.output_put_url, self._in_parts
        )

    def __enter__(self) -> _Uploading:
        interrupted = self._attempt.progress.upload
        if interrupted is not None:
            # The parts that were not sent yet were lost with the earlier agent.
            self._abort(interrupted)
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        self.upload.close()
        if kind is not None and self._id is not None:
            self._abort(self._id)
        self._operation.__exit__(kind, *rest)  # type: ignore[arg-type]

    def begin(self) -> None:
        """Report the start of the upload, once."""
        if not self._began:
            self._began = True
            name, seconds = Operation.UPLOAD_OUTPUT, Metric.OUTPUT_UPLOAD_SECONDS
            self._operation.enter_context(self._attempt.operation(name, seconds))

    def _in_parts(self, upload: str) -> None:
        self._id = upload
        self._attempt.note(upload=upload)
        self.begin()

    def _abort(self, upload: str) -> None:
        with contextlib.suppress(TransferFailed, Stopped):
            self._attempt.transfer.abort(self._attempt.spec.grant, OUTPUT, upload)
