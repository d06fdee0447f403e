"""What proves a cause is true also where the kernel took the evidence away."""

from __future__ import annotations

from executor.attempt.peak_usage import PeakUsage
from executor.containers.usage import Usage

MIB = 1024**2


def test_memory_that_ran_out_unseen_was_all_in_use() -> None:
    peaks = PeakUsage()
    peaks.see(Usage(memory_bytes=27 * MIB), disk_bytes=0)
    peaks.ran_out(64 * MIB)
    assert peaks.metrics()["peak_memory_bytes"] == 64 * MIB


def test_what_the_kernel_knows_counts_before_the_limit() -> None:
    peaks = PeakUsage()
    peaks.see(Usage(memory_bytes=27 * MIB, memory_peak_bytes=63 * MIB, oom_kills=1), disk_bytes=0)
    peaks.ran_out(64 * MIB)
    assert peaks.metrics()["peak_memory_bytes"] == 63 * MIB


def test_memory_without_a_limit_is_what_was_seen() -> None:
    peaks = PeakUsage()
    peaks.see(Usage(memory_bytes=27 * MIB), disk_bytes=0)
    peaks.ran_out(0)
    assert peaks.metrics()["peak_memory_bytes"] == 27 * MIB
