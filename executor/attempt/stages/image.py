"""Having the container image on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from executor.attempt.context import StageFailed
from executor.containers.base import ContainerError
from simherd.contract.cause import Cause
from simherd.contract.operations import Metric, Operation

if TYPE_CHECKING:
    from executor.attempt.context import Attempt


def fetch_image(attempt: Attempt) -> None:
    """Have the attempt's image ready.

    Raises:
        StageFailed: it cannot be had.
    """
    image = attempt.spec.image
    try:
        with attempt.operation(
            Operation.DOWNLOAD_CONTAINER,
            Metric.CONTAINER_IMAGE_DOWNLOAD_SECONDS,
            image_uri=image,
        ) as learnt:
            info = attempt.backend.prepare(image)
            attempt.images.used(image, pulled=info.source == "pulled")
            learnt |= {"source": info.source, "size_bytes": info.size_bytes}
    except ContainerError as error:
        raise StageFailed(Cause.IMAGE_UNAVAILABLE, str(error)) from error
    attempt.measured(**{Metric.CONTAINER_IMAGE_SIZE_BYTES.value: info.size_bytes})
