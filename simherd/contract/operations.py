"""Names of the stages and metrics of an attempt in the HTTP contract."""

from __future__ import annotations

from enum import Enum


class Operation(str, Enum):
    """A stage of an attempt that is timed and shown to users."""

    DOWNLOAD_CONTAINER = "download_container"
    DOWNLOAD_INPUT = "download_input"
    UNCOMPRESS_INPUT = "uncompress_input"
    EXEC_COMMAND = "exec_command"
    COMPRESS_OUTPUT = "compress_output"
    UPLOAD_OUTPUT = "upload_output"
    STALL = "stall"
    SAVE_CHECKPOINT = "save_checkpoint"
    RESTORE_CHECKPOINT = "restore_checkpoint"

    @property
    def label(self) -> str:
        """Return the words for people."""
        return _LABELS[self]


_LABELS = {
    Operation.DOWNLOAD_CONTAINER: "Container image download",
    Operation.DOWNLOAD_INPUT: "Input download",
    Operation.UNCOMPRESS_INPUT: "Input decompression",
    Operation.EXEC_COMMAND: "Command",
    Operation.COMPRESS_OUTPUT: "Output compression",
    Operation.UPLOAD_OUTPUT: "Output upload",
    Operation.STALL: "No output and no CPU time",
    Operation.SAVE_CHECKPOINT: "Checkpoint saved",
    Operation.RESTORE_CHECKPOINT: "Checkpoint restored",
}


class Metric(str, Enum):
    """A measured value; the suffix of the wire name is its unit."""

    TOTAL_SECONDS = "total_seconds"
    QUEUE_TIME_SECONDS = "queue_time_seconds"
    CONTAINER_IMAGE_DOWNLOAD_SECONDS = "container_image_download_seconds"
    CONTAINER_IMAGE_SIZE_BYTES = "container_image_size_bytes"
    INPUT_UPLOAD_SECONDS = "input_upload_seconds"
    INPUT_DOWNLOAD_SECONDS = "input_download_seconds"
    INPUT_DECOMPRESSION_SECONDS = "input_decompression_seconds"
    INPUT_ZIPPED_SIZE_BYTES = "input_zipped_size_bytes"
    INPUT_SIZE_BYTES = "input_size_bytes"
    COMPUTATION_SECONDS = "computation_seconds"
    OUTPUT_COMPRESSION_SECONDS = "output_compression_seconds"
    OUTPUT_UPLOAD_SECONDS = "output_upload_seconds"
    OUTPUT_TOTAL_FILES = "output_total_files"
    OUTPUT_SIZE_BYTES = "output_size_bytes"
    OUTPUT_ZIPPED_SIZE_BYTES = "output_zipped_size_bytes"
    CPU_SECONDS = "cpu_seconds"
    PEAK_MEMORY_BYTES = "peak_memory_bytes"
    PEAK_DISK_BYTES = "peak_disk_bytes"
    PEAK_PROCESSES = "peak_processes"
    DISK_LIMIT_BYTES = "disk_limit_bytes"
