"""When each alert fires: a deployment that is well raises none, one in trouble the right one."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.conftest import REPOSITORY, missing

if TYPE_CHECKING:
    from pathlib import Path

_RULES = REPOSITORY / "deploy/prometheus/alerts.yml"
#: Minutes that pass before somebody looks.
_MINUTES = 60
_GROUP = 'group="g1",name="sims"'
_LATER = f"x{_MINUTES}"
#: One value a minute, as promtool writes them: `1+0x60` stays, `0+60x60` grows by 60.
_WELL = {
    'up{process="api",instance="api:9100"}': "1+0",
    'up{process="worker",instance="worker:9100"}': "1+0",
    'up{process="recorder",instance="recorder:9100"}': "1+0",
    'up{process="executor",instance="machine:9100"}': "1+0",
    'simherd_dependency_up{dependency="storage"}': "1+0",
    "simherd_state_age_seconds": "2+0",
    'simherd_sweep_last_success_timestamp_seconds{server="main"}': "0+60",
    'simherd_sweep_last_success_timestamp_seconds{server="east"}': "0+60",
    f"simherd_recorder_lag_seconds{{{_GROUP}}}": "0+0",
    'simherd_http_requests_total{status="200",route="/tasks",method="GET"}': "0+600",
    'simherd_http_requests_total{status="500",route="/tasks",method="GET"}': "0+1",
    'simherd_http_response_seconds_bucket{le="0.05"}': "0+600",
    'simherd_http_response_seconds_bucket{le="+Inf"}': "0+601",
    'simherd_jobs_total{name="sweep",outcome="done"}': "0+12",
    'simherd_jobs_total{name="sweep",outcome="error"}': "0+0",
    'simherd_status_changes_refused_total{status="started"}': "0+1",
    "simherd_delivery_overdue_seconds": "3+0",
    'simherd_redis_up{server="main"}': "1+0",
    'simherd_redis_up{server="east"}': "1+0",
    'simherd_redis_memory_bytes{server="main"}': "500+0",
    'simherd_redis_memory_limit_bytes{server="main"}': "1000+0",
    'simherd_redis_aof_ok{server="main"}': "1+0",
    'simherd_redis_data_age_seconds{server="main"}': "6000+60",
    'simherd_redis_clock_ahead_seconds{server="main"}': "-1+0",
    "simherd_storage_free_bytes": "20000000000+0",
    'simherd_stages_failed_total{stage="upload_output"}': "0+0",
    "simherd_mass_losses_held_total": "0+0",
    f"simherd_group_quarantined{{{_GROUP}}}": "0+0",
    'simherd_machine_inputs_dropped_total{kind="report"}': "1+0",
    f'simherd_machines{{{_GROUP},state="started"}}': "9+0",
    f'simherd_machines{{{_GROUP},state="suspect"}}': "1+0",
    f"simherd_leases_overdue{{{_GROUP}}}": "0+0",
    'simherd_attempts_lost_total{cause="machine_lost"}': "0+0",
    'simherd_attempts_lost_total{cause="spot_reclaimed"}': "0+9",
    f"simherd_queue_oldest_wait_seconds{{{_GROUP}}}": "5000+0",
    f"simherd_leases{{{_GROUP}}}": "9+0",
    f"simherd_group_launches_refused{{{_GROUP}}}": "0+0",
    'simherd_executor_contact_silent_seconds{instance="machine:9100"}': "2+0",
    'simherd_executor_dependency_up{instance="machine:9100",dependency="engine"}': "1+0",
    'simherd_executor_spot_source_silent_seconds{instance="machine:9100"}': "5+0",
}
#: Alert → what differs from a deployment that is well, all the time; None: it is not there.
_TROUBLE: dict[str, dict[str, str | None]] = {
    "SimherdProcessDown": {'up{process="worker",instance="worker:9100"}': None},
    "SimherdDependencyDown": {'simherd_dependency_up{dependency="storage"}': "0+0"},
    "SimherdStateUnknown": {"simherd_state_age_seconds": "0+60"},
    "SimherdSweepStale": {
        'simherd_sweep_last_success_timestamp_seconds{server="east"}': "60+0",
    },
    "SimherdRecorderBehind": {f"simherd_recorder_lag_seconds{{{_GROUP}}}": "0+60"},
    "SimherdApiErrors": {
        'simherd_http_requests_total{status="500",route="/tasks",method="GET"}': "0+60"
    },
    "SimherdApiSlow": {
        'simherd_http_response_seconds_bucket{le="0.05"}': "0+60",
        'simherd_http_response_seconds_bucket{le="5"}': "0+601",
    },
    "SimherdJobsFail": {'simherd_jobs_total{name="sweep",outcome="error"}': "0+1"},
    "SimherdChangesRefused": {'simherd_status_changes_refused_total{status="started"}': "0+90"},
    "SimherdDeliveriesOverdue": {"simherd_delivery_overdue_seconds": "0+60"},
    "SimherdRedisDown": {'simherd_redis_up{server="east"}': "0+0"},
    "SimherdRedisMemory": {'simherd_redis_memory_bytes{server="main"}': "710+0"},
    "SimherdRedisNotDurable": {'simherd_redis_aof_ok{server="main"}': "0+0"},
    "SimherdRedisEmptied": {'simherd_redis_data_age_seconds{server="main"}': "-3300+60"},
    "SimherdClockSkew": {'simherd_redis_clock_ahead_seconds{server="main"}': "-6+0"},
    "SimherdStorageLow": {"simherd_storage_free_bytes": "9000000000+0"},
    "SimherdUploadsFail": {'simherd_stages_failed_total{stage="upload_output"}': "0+1"},
    "SimherdMassLossHeld": {"simherd_mass_losses_held_total": "0+1"},
    "SimherdGroupQuarantined": {f"simherd_group_quarantined{{{_GROUP}}}": "1+0"},
    "SimherdMachineInputsDropped": {'simherd_machine_inputs_dropped_total{kind="report"}': "0+3"},
    "SimherdMachinesSuspect": {f'simherd_machines{{{_GROUP},state="suspect"}}': "5+0"},
    "SimherdLeasesOverdue": {f"simherd_leases_overdue{{{_GROUP}}}": "1+0"},
    "SimherdAttemptsLost": {'simherd_attempts_lost_total{cause="machine_lost"}': "0+1"},
    "SimherdQueueStuck": {f"simherd_leases{{{_GROUP}}}": "8+0"},
    "SimherdLaunchesRefused": {f"simherd_group_launches_refused{{{_GROUP}}}": "4+0"},
    "SimherdExecutorDown": {'up{process="executor",instance="machine:9100"}': "0+0"},
    "SimherdExecutorNoContact": {
        'simherd_executor_contact_silent_seconds{instance="machine:9100"}': "0+60"
    },
    "SimherdExecutorTrouble": {
        'simherd_executor_dependency_up{instance="machine:9100",dependency="engine"}': "0+0"
    },
    "SimherdSpotSourceSilent": {
        'simherd_executor_spot_source_silent_seconds{instance="machine:9100"}': "0+60"
    },
}


def _case(name: str, firing: list[str], changed: dict[str, str | None]) -> dict[str, Any]:
    series = {**_WELL, **changed}
    given = [
        {"series": one, "values": values + _LATER}
        for one, values in series.items()
        if values is not None
    ]
    samples = [{"labels": f'{{alertname="{alert}"}}', "value": 1} for alert in firing]
    looked = {
        "expr": 'count by (alertname) (ALERTS{alertstate="firing"})',
        "eval_time": f"{_MINUTES}m",
        "exp_samples": samples,
    }
    return {"name": name, "interval": "1m", "input_series": given, "promql_expr_test": [looked]}


def test_there_is_trouble_for_every_alert() -> None:
    groups = yaml.safe_load(_RULES.read_text())["groups"]
    assert {rule["alert"] for group in groups for rule in group["rules"]} == _TROUBLE.keys()


@pytest.fixture(scope="module")
def promtool() -> str:
    found = shutil.which("promtool")
    if found is None:
        missing("there is no promtool on this machine (apt-get install prometheus)")
    return str(found)


def test_each_trouble_fires_its_alert_and_no_other(promtool: str, tmp_path: Path) -> None:
    cases = [_case("well", [], {})]
    cases += [_case(alert, [alert], changed) for alert, changed in _TROUBLE.items()]
    file = tmp_path / "cases.yml"
    file.write_text(
        yaml.safe_dump(
            {"rule_files": [str(_RULES)], "evaluation_interval": "1m", "tests": cases},
        )
    )
    done = subprocess.run(
        [promtool, "test", "rules", file], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
