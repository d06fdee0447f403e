"""The tables of what is counted, and what relies on them: the page, the alerts, the board."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import yaml

from scheduler.jobs.canary import Canary
from scripts.pages import metrics_page
from simherd.contract import limits
from simherd.runtime.metric_table import MetricKind
from tests.conftest import REPOSITORY, missing
from tests.support.measures import measures

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest

_RULES = REPOSITORY / "deploy/prometheus/alerts.yml"
_BOARD = REPOSITORY / "deploy/grafana/simherd.json"
_RUNBOOK = REPOSITORY / "docs/runbook.md"
_NAME = re.compile(r"\bsimherd_[a-z_]+\b")
_SUFFIXES = ("_bucket", "_sum", "_count")


def alerts() -> list[dict[str, Any]]:
    groups = yaml.safe_load(_RULES.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(_BOARD.read_text())["panels"]
    return found


def names_in_use() -> Iterator[str]:
    """The metrics that board, alerts and runbook speak of."""
    texts = [rule["expr"] for rule in alerts()]
    texts += [target["expr"] for panel in panels() for target in panel.get("targets", ())]
    texts.append(_RUNBOOK.read_text())
    known = measures()
    for name in {name for text in texts for name in _NAME.findall(text)}:
        stem = next((name.removesuffix(s) for s in _SUFFIXES if name.endswith(s)), name)
        yield stem if stem in known and known[stem].kind is MetricKind.HISTOGRAM else name


def test_the_page_is_up_to_date() -> None:
    page = (REPOSITORY / "docs" / "metrics.md").read_text()
    assert page == metrics_page.page(), "python -m scripts.pages.metrics_page > docs/metrics.md"


def test_every_name_has_one_row_with_its_unit() -> None:
    for row in measures().values():
        assert row.name.startswith("simherd_")
        # Prometheus labels what it collects with these itself.
        assert not {"job", "instance", "process", "le"} & set(row.labels), row.name
        assert not re.search(r"_(ms|millis|kb|mb|gb|minutes|hours)(_|$)", row.name), row.name


def test_board_alerts_and_runbook_speak_of_metrics_that_there_are() -> None:
    assert set(names_in_use()) - measures().keys() == set()


def test_every_alert_has_its_section_in_the_runbook() -> None:
    sections = re.split(r"^#+ ", _RUNBOOK.read_text(), flags=re.MULTILINE)
    by_name = {text.partition("\n")[0]: text for text in sections}
    names = [rule["alert"] for rule in alerts()]
    assert {name for name in by_name if name.startswith("Simherd")} == set(names)
    for rule in alerts():
        said = by_name[rule["alert"]]
        for word in ("**Means**", "**Look", "**Wake somebody**"):
            assert word in said, (rule["alert"], word)
        assert rule["annotations"]["runbook"] == f"docs/runbook.md#{rule['alert'].lower()}"
        assert rule["annotations"]["summary"].endswith(".")
        assert rule["labels"]["severity"] in {"page", "ticket"}


def test_the_rules_are_as_prometheus_wants_them() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        missing("there is no promtool on this machine (apt-get install prometheus)")
        return
    config = REPOSITORY / "deploy/prometheus/prometheus.yml"
    done = subprocess.run(
        [promtool, "check", "config", config], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_board_can_be_imported() -> None:
    found = panels()
    assert len({panel["id"] for panel in found}) == len(found)
    taken: set[tuple[int, int]] = set()
    for panel in found:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24, panel["title"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not taken & cells, panel["title"]
        taken |= cells
        for target in panel.get("targets", ()):
            assert target["datasource"]["uid"] == "${datasource}", panel["title"]
            assert target["expr"].count("(") == target["expr"].count(")"), target["expr"]


def test_a_worker_in_which_no_job_ends_is_not_live(monkeypatch: pytest.MonkeyPatch) -> None:
    canary = Canary()
    monkeypatch.setattr(limits, "SILENT_PROCESS_S", 0.0)
    trouble = canary.trouble(lambda: True)
    assert trouble is not None
    assert trouble.startswith("No job has ended in this worker")
    # Without its broker none can: that is not the worker's fault.
    assert canary.trouble(lambda: False) is None


def test_a_child_sings_for_its_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    canary = Canary()
    monkeypatch.setattr(limits, "SILENT_PROCESS_S", 1000.0)
    canary._memory[:] = bytes(len(canary._memory))  # as if no job had ever ended
    monkeypatch.setattr("time.monotonic", lambda: 5000.0)
    assert canary.trouble(lambda: True) is not None
    child = os.fork()
    if child == 0:
        canary.sing()
        os._exit(0)
    os.waitpid(child, 0)
    assert canary.trouble(lambda: True) is None
