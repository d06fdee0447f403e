"""Who may start machines with which provider, and what becomes of those whose provider is off."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import select

from scheduler.providers.base import MachineState
from scheduler.providers.external import ExternalProvider
from scheduler.services.accounts.provider_access import (
    log_groups_without_provider,
    providers_in_use,
    set_providers,
)
from scheduler.services.control.orphans import examine
from scheduler.services.control.sweep import sweep
from scheduler.services.errors import Conflict, Forbidden, Invalid
from scheduler.services.groups.register import GroupRequest, register_group, start_group
from scheduler.services.groups.terminate import request_termination, shut_down_group
from scheduler.services.machines import access
from scheduler.store.admin_models import AuditEntry
from scheduler.store.machine_state import MACHINE_DOWN, MACHINE_UP
from scheduler.store.models import GroupRow, MachineRow, User
from simherd.contract.cause import Cause
from simherd.contract.join import digest
from tests.support.cloud import Cloud, Fleet
from tests.support.runtime import make_runtime

if TYPE_CHECKING:
    from pathlib import Path

    from scheduler.store.engine import Store


class Site:
    """One deployment; `on` is what its operator has switched on, one after another."""

    def __init__(self, database_url: str, redis_url: str, folder: Path) -> None:
        self._place = (database_url, redis_url, folder)
        self.cloud = Cloud()

    def on(self, providers: str) -> Fleet:
        """The processes, started again with these providers."""
        rt, _ = make_runtime(*self._place, providers=providers)
        known = {"local": self.cloud, "docker": Cloud(), "external": ExternalProvider()}
        rt.__dict__["providers"] = known
        rt.__dict__["send_job"] = lambda *_: None
        return Fleet(rt, self.cloud, self._place[1])


@pytest.fixture
def site(store: Store, database_url: str, redis_url: str, tmp_path: Path) -> Site:
    return Site(database_url, redis_url, tmp_path)


def _narrow(fleet: Fleet, group: GroupRow, providers: list[str] | None) -> None:
    with fleet.rt.store.write() as session:
        set_providers(session, "root", session.get_one(User, group.user_id).username, providers)


def _register(fleet: Fleet, group: GroupRow, **fields: Any) -> GroupRow:
    asked = GroupRequest("c2-standard-4", fields.pop("wire", "GCP"), **fields)
    return register_group(fleet.rt, group.user_id, asked)


@pytest.mark.parametrize(
    ("on", "asked", "sentence"),
    [
        ("", {"provider": "local"}, "provider: 'local' is not available to you. There are none"),
        ("", {"wire": "GCP"}, "provider: no provider is available to you. There are none: you may"),
        ("external", {"provider": "docker"}, "'docker' is not available.*There are: external"),
        ("external", {"provider": "ec2"}, "'ec2' is not available.*There are: external"),
        (
            "external",
            {"wire": "LOCAL"},
            "usual provider is not available to you. There are: external. Name one",
        ),
        ("local", {"wire": "AWS"}, "provider_id: 'AWS' is not available.*There are: GCP, LOCAL"),
        ("local", {"provider": "process"}, "provider: 'process' is not available"),
    ],
)
def test_a_provider_that_is_off_takes_no_group(
    site: Site, on: str, asked: dict[str, Any], sentence: str
) -> None:
    fleet = site.on(on)
    group = fleet.group()
    with pytest.raises(Invalid, match=sentence):
        _register(fleet, group, **asked)


def test_a_wire_provider_leads_to_the_first_that_is_on(site: Site) -> None:
    fleet = site.on("docker,local")
    group = fleet.group()
    assert _register(fleet, group).provider == "local"
    assert _register(site.on("docker"), group).provider == "docker"
    _narrow(fleet, group, ["docker"])
    assert _register(fleet, group).provider == "docker"


def test_a_user_can_be_narrowed_and_the_audit_says_so(site: Site) -> None:
    fleet = site.on("local,external")
    group = fleet.group(status="registered", started_at=None)
    _narrow(fleet, group, ["external"])
    with pytest.raises(Invalid, match="There are: external"):
        _register(fleet, group, provider="local")
    with pytest.raises(Conflict, match="'local' is switched off for"):
        start_group(fleet.rt, fleet.now(group))
    _narrow(fleet, group, [])
    with pytest.raises(Invalid, match="There are none"):
        _register(fleet, group, provider="external")
    _narrow(fleet, group, None)
    assert _register(fleet, group, provider="local").provider == "local"
    with fleet.rt.store.write() as session:
        user = session.get_one(User, group.user_id)
        with pytest.raises(Invalid, match="providers: 'moon' is not a provider"):
            set_providers(session, "root", user.username, ["moon"])
        entries = session.scalars(select(AuditEntry).where(AuditEntry.subject == user.username))
        found = [(entry.action, entry.facts["providers"]) for entry in entries]
    assert found == [("providers_set", p) for p in (["external"], [], None)]


def test_machines_of_a_provider_that_goes_off_are_looked_after_and_not_replaced(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    fleet = site.on("local")
    group = fleet.group()
    first, second = fleet.scale(group)
    fleet.join(first)
    launched = len(site.cloud.launched)

    fleet = site.on("external")
    log_groups_without_provider(fleet.rt)
    assert "event=provider_off provider=local groups=" in caplog.text
    site.cloud.states[second.id] = MachineState.GONE
    assert [m.id for m in fleet.scale(group)] == [first.id]
    assert len(site.cloud.launched) == launched
    detail = fleet.now(group).status_detail or ""
    assert "provider 'local' is switched off on this server" in detail
    # The sweep as a whole neither breaks nor starts anything, and what is there is still known.
    sweep(fleet.rt, 0.0)
    assert len(site.cloud.launched) == launched
    assert "sweep_broke" not in caplog.text
    assert {"local", "external"} <= set(providers_in_use(fleet.rt))
    assert "ec2" not in providers_in_use(fleet.rt)

    # On again: the group is as large as it was, and says nothing more.
    fleet = site.on("local")
    assert len(fleet.scale(group)) == 2
    assert fleet.now(group).status_detail is None


def test_a_group_whose_provider_is_off_is_still_terminated(site: Site) -> None:
    fleet = site.on("local")
    group = fleet.group(num_machines=1)
    (machine,) = fleet.scale(group)
    fleet = site.on("")
    request_termination(fleet.rt, fleet.now(group), Cause.GROUP_TERMINATED)
    assert shut_down_group(fleet.rt, group.id)
    assert site.cloud.states[machine.id] is MachineState.GONE
    assert fleet.now(group).status == "terminated"
    with fleet.rt.store.read() as session:
        assert session.get_one(MachineRow, machine.id).status == MACHINE_DOWN


def test_the_doctor_finds_what_a_provider_that_is_off_left(site: Site) -> None:
    fleet = site.on("local")
    group = fleet.group(num_machines=2)
    machine, _ = fleet.scale(group)
    fleet.set(machine, status=MACHINE_DOWN)
    fleet = site.on("")
    found = [f.what for f in examine(fleet.rt, fix=True) if f.kind == "stray_machine"]
    assert machine.id in found
    assert site.cloud.states[machine.id] is MachineState.GONE


def test_a_group_whose_provider_is_off_invites_nobody(site: Site) -> None:
    fleet = site.on("external")
    group = fleet.group(provider="external", status="started", num_machines=0)
    ticket = access.invite(fleet.rt, fleet.now(group))
    fleet = site.on("local")
    with pytest.raises(Conflict, match="'external' is switched off on this server"):
        access.invite(fleet.rt, fleet.now(group))
    # Nor is one let in that was invited before.
    with pytest.raises(Forbidden, match="'external' is switched off"):
        access.join(fleet.rt, ticket.token, digest("secret"))
    access.join(site.on("external").rt, ticket.token, digest("secret"))
    with fleet.rt.store.read() as session:
        (machine,) = session.scalars(select(MachineRow).where(MachineRow.group_id == group.id))
    assert machine.status == MACHINE_UP
