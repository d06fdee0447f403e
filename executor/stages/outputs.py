"""Packing, uploading and verifying the outputs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from executor.archive import pack
from executor.attempt import StageFailed
from executor.transfer import TransferFailed
from simherd.contract.objects import OUTPUT_ROOT
from simherd.contract.operations import Metric, Operation
from simherd.contract.outcome import Cause

if TYPE_CHECKING:
    from executor.attempt import Attempt


def store_outputs(attempt: Attempt) -> None:
    """Store what the commands created or changed, and check that it arrived.

    Raises:
        StageFailed: the outputs could not be packed or stored.
    """
    archive = attempt.folder / "output.zip"
    try:
        with attempt.operation(
            Operation.COMPRESS_OUTPUT, Metric.OUTPUT_COMPRESSION_SECONDS
        ) as learnt:
            packed = pack(attempt.work, archive, unchanged=attempt.inputs, prefix=f"{OUTPUT_ROOT}/")
            learnt["notes"] = list(packed.notes[:20])
    except OSError as error:
        raise StageFailed(
            Cause.UPLOAD_FAILED, f"The outputs could not be packed: {error}"
        ) from error
    attempt.measured(
        **{
            Metric.OUTPUT_TOTAL_FILES.value: packed.files,
            Metric.OUTPUT_SIZE_BYTES.value: packed.bytes,
            Metric.OUTPUT_ZIPPED_SIZE_BYTES.value: packed.zipped_bytes,
        }
    )
    spec = attempt.spec
    try:
        with attempt.operation(Operation.UPLOAD_OUTPUT, Metric.OUTPUT_UPLOAD_SECONDS):
            attempt.transfer.upload(spec.output_put_url, archive, packed.zipped_bytes)
            stored = attempt.transfer.stored_size(spec.output_check_url)
    except TransferFailed as error:
        raise StageFailed(Cause.UPLOAD_FAILED, f"The outputs were not stored: {error}") from error
    if stored != packed.zipped_bytes:
        detail = f"{packed.zipped_bytes} bytes of outputs were sent, {stored} are stored."
        raise StageFailed(Cause.UPLOAD_FAILED, detail)
