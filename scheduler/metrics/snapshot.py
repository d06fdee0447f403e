"""The deployment's numbers, at most some seconds old; a server that is down does not delay them."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from scheduler.metrics import table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from prometheus_client import Metric

    from scheduler.metrics.collectors import Reading
    from simherd.runtime.metric_table import Measure

log = logging.getLogger(__name__)

#: Seconds for which a reading is good enough, for which an answer waits for another, and after
#: which one is too old to be shown.
_FRESH_S, _WAIT_S, _OLD_S = 5.0, 3.0, 60.0


class StateCollector(Collector):
    """Reads when it is asked, in a thread: Prometheus does not wait until a dead server is one."""

    def __init__(self, rows: Iterable[Measure], read: Callable[[], Reading]) -> None:
        self._rows = [row for row in rows if row is not table.STATE_AGE]
        self._read = read
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._reading: Reading = {}
        self._read_at = time.monotonic() - _FRESH_S

    def collect(self) -> Iterable[Metric]:
        """What was read last, unless that is too old."""
        self._refresh()
        age = time.monotonic() - self._read_at
        family = GaugeMetricFamily(table.STATE_AGE.name, table.STATE_AGE.help)
        family.add_metric([], age)
        yield family
        reading = self._reading if age < _OLD_S else {}
        for row in self._rows:
            family = GaugeMetricFamily(row.name, row.help, labels=row.labels)
            for labels, value in reading.get(row.name, ()):
                family.add_metric(labels, value)
            yield family

    def describe(self) -> Iterable[Metric]:
        """Nothing: its registration does not wait for replies."""
        return ()

    def _refresh(self) -> None:
        with self._lock:
            if time.monotonic() - self._read_at < _FRESH_S:
                return
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._look, name="state", daemon=True)
                self._thread.start()
            thread = self._thread
        thread.join(_WAIT_S)

    def _look(self) -> None:
        try:
            self._reading = self._read()
            self._read_at = time.monotonic()
        except Exception as error:
            log.warning("event=state_not_read error=%s", error)
