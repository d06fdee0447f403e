"""Fetching the container image."""

from __future__ import annotations

from typing import TYPE_CHECKING

from executor.attempt.errors import StageFailed
from executor.containers.base import ContainerError
from simherd.contract.cause import Cause
from simherd.contract.operations import Metric, Operation

if TYPE_CHECKING:
    from executor.attempt.context import Attempt


def fetch_image(attempt: Attempt) -> None:
    """Make the attempt's image available on this machine.
    Raises StageFailed: the image is not available."""
    image = attempt.spec.image
    try:
        with attempt.operation(
            Operation.DOWNLOAD_CONTAINER,
            Metric.CONTAINER_IMAGE_DOWNLOAD_SECONDS,
            image_uri=image,
        ) as result:
            info = attempt.backend.prepare(image)
            attempt.images.used(image, pulled=info.source == "pulled")
            result |= {"source": info.source, "size_bytes": info.size_bytes}
    except ContainerError as error:
        raise StageFailed(Cause.IMAGE_UNAVAILABLE, str(error)) from error
    attempt.report_metrics(**{Metric.CONTAINER_IMAGE_SIZE_BYTES.value: info.size_bytes})
