"""Whose machine groups a user may use, and which group a name, or no name, stands for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from scheduler.services.accounts.admin_users import create_user
from scheduler.services.accounts.users import create_key
from scheduler.store.models import GroupRow, GroupShare, TaskRow, User
from simherd.cli.main import cli
from simherd.errors import SimherdError
from tests.support.api import serving, user_of
from tests.support.builders import make_group
from tests.support.runtime import make_runtime, waiting

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx

    from scheduler.store.engine import Store
    from scheduler.wiring import Runtime

_TASK = {
    "simulator": "arbitrary_commands",
    "container_image": "any",
    "has_input": False,
    "extra_params": {"commands": ["true"]},
}


class Site:
    """A server; users come into being when they are first named. `root` is an operator."""

    def __init__(self, rt: Runtime, url: str) -> None:
        self.rt, self.url = rt, url
        self._keys: dict[str, str] = {}
        self._ids: dict[str, str] = {}
        self._apis: dict[str, httpx.Client] = {}

    def _user(self, name: str) -> str:
        if name not in self._ids:
            with self.rt.store.write() as session:
                is_operator = name.startswith("root")
                user = create_user(session, "test", name, "a@b.c", operator=is_operator)
                self._ids[name] = user.id
                self._keys[name] = create_key(session, user.id, "test")
        return self._ids[name]

    def api(self, name: str) -> httpx.Client:
        """A user's client."""
        self._user(name)
        if name not in self._apis:
            self._apis[name] = user_of(self.url, self._keys[name])
        return self._apis[name]

    def group(self, owner: str, name: str, **fields: Any) -> str:
        """A started group in SQL, as it may be left from before names were checked; its id."""
        user_id = self._user(owner)
        with self.rt.store.write() as session:
            return make_group(session, user_id=user_id, name=name, **fields).id

    def types(self, name: str, *words: str, fails: bool = False) -> str:
        """What `simherd` prints for a user, or why it fails."""
        self._user(name)
        told = {"SIMHERD_API_URL": self.url, "SIMHERD_API_KEY": self._keys[name]}
        done = CliRunner().invoke(cli, list(words), env=told)
        assert (done.exit_code != 0) == fails, (done.output, done.exception)
        return str(done.exception) if isinstance(done.exception, SimherdError) else done.output

    def found(self, name: str, group: str) -> str | None:
        """The id of the group that a name stands for."""
        answer = self.api(name).get(f"/compute/group/{group}")
        return str(answer.json()["id"]) if answer.status_code == 200 else None

    def submits(self, name: str, group_id: str | None) -> tuple[int, str]:
        """The status of a submission, and what it says, or the task's group."""
        body = _TASK if group_id is None else {**_TASK, "resource_pool": group_id}
        answer = self.api(name).post("/tasks/submit", json=body)
        if answer.status_code != 202:
            return answer.status_code, str(answer.json()["detail"])
        with self.rt.store.read() as session:
            task = session.query(TaskRow).filter(TaskRow.id == answer.json()["id"]).one()
            return 202, task.group_id

    def end(self, group_id: str) -> None:
        """The group is terminated."""
        with self.rt.store.write() as session:
            session.get_one(GroupRow, group_id).status = "terminated"


@pytest.fixture(scope="module")
def site(
    database_url: str, store: Store, redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    rt, _ = make_runtime(database_url, redis_url, tmp_path_factory.mktemp("storage"))
    rt.__dict__["send_job"] = lambda *_: None
    with serving(rt) as url:
        rt.settings.public_url = url
        yield Site(rt, url)
    rt.store.engine.dispose()


def _registers(site: Site, user: str, name: str, **fields: Any) -> tuple[int, str]:
    body = {"machine_type": "local", "name": name, **fields}
    answer = site.api(user).post("/compute/group", json=body)
    return answer.status_code, answer.text


def test_a_name_means_the_users_group_first(site: Site) -> None:
    mine = site.group("ann", "same")
    theirs = site.group("root", "same", shared=True)
    assert (site.found("ann", "same"), site.found("bob", "same")) == (mine, theirs)
    # One's own that has ended gives way to one that is shared; alone it is still shown.
    site.end(mine)
    assert site.found("ann", "same") == theirs
    site.end(theirs)
    assert (site.found("ann", "same"), site.found("bob", "same")) == (mine, None)


def test_only_operators_share_with_everyone(site: Site) -> None:
    status, said = _registers(site, "ann", "trap", shared=True)
    assert status == 403
    assert "simherd resources share NAME USERNAME" in said
    assert site.found("bob", "trap") is None
    told = site.types("ann", "resources", "start", "local", "--shared", fails=True)
    assert "only operators share a machine group with everyone" in told
    assert _registers(site, "root", "pool", shared=True)[0] == 201
    assert site.found("bob", "pool") is not None
    audit = site.api("root").get("/v1/admin/audit", params={"subject": "pool"}).json()
    assert [entry["action"] for entry in audit] == ["group_share"]


def test_reserved_names_are_for_operators(site: Site) -> None:
    for name in ("local", "default"):
        status, said = _registers(site, "ann", name)
        assert status == 403
        assert f"name: '{name}' is reserved for operators" in said
        assert _registers(site, "root", name)[0] == 201


def test_no_user_sees_two_groups_of_one_name(site: Site) -> None:
    pool = site.group("root", "fast", shared=True)
    status, said = _registers(site, "ann", "fast")
    assert status == 409
    assert "a machine group 'fast' of root is shared with you" in said
    # Nor can it be shared with somebody who has one of that name, or with everyone.
    site.group("eve", "slow")
    site.group("root", "slow")
    share = ("admin", "groups", "share", "slow", "--owner", "root")
    told = site.types("root", *share, "--with", "eve", fails=True)
    assert "eve has or sees another machine group 'slow', that of eve" in told
    told = site.types("root", *share, "--everyone", fails=True)
    assert "eve has another machine group 'slow'" in told
    assert "with bob" in site.types("root", *share, "--with", "bob")
    assert _registers(site, "bob", "slow")[0] == 409
    # Once it has ended, its name is free.
    site.end(pool)
    assert _registers(site, "ann", "fast")[0] == 201


def test_an_offer_holds_once_it_is_accepted_and_until_it_is_taken_back(site: Site) -> None:
    group = site.group("ann", "lab")
    assert "offered to bob" in site.types("ann", "resources", "share", "lab", "bob")
    assert site.found("bob", "lab") is None
    assert site.submits("bob", group)[0] == 404
    assert "not yet" in site.types("bob", "resources", "offers")
    told = site.types("bob", "resources", "accept", "lab")
    assert "Its owner can read them" in told
    assert site.found("bob", "lab") == group
    listed = site.api("bob").get("/compute/groups").json()
    assert [g["own"] for g in listed if g["id"] == group] == [False]
    assert site.submits("bob", group) == (202, group)
    # It is for him alone, and not his to share or end.
    assert site.submits("eve", group)[0] == 404
    assert "you have no machine group" in site.types(
        "bob", "resources", "share", "lab", "eve", fails=True
    )
    ended = site.api("bob").delete("/compute/group", params={"machine_group_id": group})
    assert ended.status_code == 404
    assert "not yet" not in site.types("ann", "resources", "shares", "lab")
    site.types("ann", "resources", "unshare", "lab", "bob")
    assert site.submits("bob", group)[0] == 404
    # What he has submitted goes on.
    assert len(waiting(site.rt, group)) == 1
    told = site.types("ann", "resources", "unshare", "lab", "bob", fails=True)
    assert "'lab' is not shared with bob" in told


def test_an_offer_is_declined_or_given_back(site: Site) -> None:
    group = site.group("ann", "other-lab")
    for words in (("decline",), ("accept", "decline")):
        site.types("ann", "resources", "share", "other-lab", "bob")
        for word in words:
            site.types("bob", "resources", word, "other-lab")
        assert site.submits("bob", group)[0] == 404
    told = site.types("bob", "resources", "accept", "other-lab", fails=True)
    assert "no machine group 'other-lab' is offered to you" in told
    assert site.api("bob").post(f"/v1/group-offers/{group}/accept").status_code == 404
    assert site.api("eve").post(f"/v1/group-offers/{group}/decline").status_code == 404
    for user, status in (("nobody", 404), ("ann", 422)):
        made = site.api("ann").post("/v1/groups/other-lab/shares", json={"username": user})
        assert made.status_code == status, made.text


def test_an_offer_of_a_name_that_one_sees_is_not_accepted(site: Site) -> None:
    mine = site.group("bob", "twin")
    group = site.group("ann", "twin")
    site.types("ann", "resources", "share", "twin", "bob")
    told = site.types("bob", "resources", "accept", "twin", fails=True)
    assert "bob has or sees another machine group 'twin', that of bob" in told
    assert site.found("bob", "twin") == mine
    site.end(mine)
    site.types("bob", "resources", "accept", "twin")
    assert site.found("bob", "twin") == group


def test_two_offers_of_one_name_are_distinguished(site: Site) -> None:
    groups = {owner: site.group(owner, "gpu") for owner in ("ann", "eve")}
    for owner in groups:
        site.types(owner, "resources", "share", "gpu", "bob")
    told = site.types("bob", "resources", "accept", "gpu", fails=True)
    assert "offered by several: ann, eve" in told
    site.types("bob", "resources", "accept", "gpu", "--from", "eve")
    assert site.found("bob", "gpu") == groups["eve"]


def test_an_operator_shares_and_takes_back_at_once(site: Site) -> None:
    group = site.group("root", "cluster")
    share, unshare = ("admin", "groups", "share"), ("admin", "groups", "unshare")
    told = site.types("root", *share, "cluster", "--with", "ann", "bob")
    assert "is shared with ann, bob" in told
    assert [site.submits(user, group)[0] for user in ("ann", "bob", "eve")] == [202, 202, 404]
    site.types("root", *unshare, "cluster", "--with", "ann")
    assert [site.submits(user, group)[0] for user in ("ann", "bob", "eve")] == [404, 202, 404]
    assert "with everyone" in site.types("root", *share, "cluster", "--everyone")
    assert "Shared with everyone" in site.types("root", "admin", "groups", "show", "cluster")
    assert [site.submits(user, group)[0] for user in ("ann", "bob", "eve")] == [202, 202, 202]
    assert "with nobody" in site.types("root", *unshare, "cluster")
    assert [site.submits(user, group)[0] for user in ("ann", "bob", "eve")] == [404, 404, 404]
    assert "no user 'nobody'" in site.types(
        "root", *share, "cluster", "--with", "nobody", fails=True
    )
    assert "Name users with --with" in site.types("root", *share, "cluster", fails=True)
    refused = site.api("ann").post(f"/v1/admin/groups/{group}/share", json={"everyone": True})
    assert refused.status_code == 403
    audit = site.api("root").get("/v1/admin/audit", params={"subject": "cluster"}).json()
    done = [entry["action"] for entry in reversed(audit)]
    assert done == ["group_share", "group_unshare", "group_share", "group_unshare"]
    site.end(group)
    told = site.types("root", *share, "cluster", "--everyone", fails=True)
    assert "'cluster' is terminated" in told


def test_users_of_a_group_that_is_shared_by_name_take_turns(site: Site) -> None:
    group = site.group("ann", "queue")
    site.types("ann", "resources", "share", "queue", "bob")
    site.types("bob", "resources", "accept", "queue")
    for user in ("ann", "ann", "ann", "bob"):
        assert site.submits(user, group)[0] == 202
    with site.rt.store.read() as session:
        owners = {t.id: t.user_id for t in session.query(TaskRow).filter(TaskRow.group_id == group)}
        bob = session.query(User).filter(User.username == "bob").one().id
    order = [owners[attempt.rpartition(":")[0]] for attempt in waiting(site.rt, group)]
    assert order.index(bob) <= 1


def test_a_task_without_a_group_goes_to_the_users_or_to_the_default(site: Site) -> None:
    # Nothing: what to do is said. A stranger's shared group of the usual name is not taken.
    trap = site.group("mallory", "local", shared=True)
    status, said = site.submits("new", None)
    assert status == 404
    assert "no machine group is named" in said
    assert "simherd resources start" in said
    run = ("run", "-I", "any", "--", "true")
    assert "no machine group is named" in site.types("new", *run, fails=True)
    # One's only group that is started; of several none is guessed.
    first = site.group("new", "first")
    assert site.submits("new", None) == (202, first)
    site.group("new", "unstarted", status="registered", started_at=None)
    assert site.submits("new", None) == (202, first)
    second = site.group("new", "second")
    assert (
        "You have several: name one of them (`--on NAME`), such as first, second"
        in (site.submits("new", None)[1])
    )
    site.end(second)
    # An operator's default, for those who may use it.
    default = site.group("root", "house", started_at=1.0)
    told = site.types("root", "admin", "groups", "default", "house")
    assert "house is the default, shared with nobody" in told
    assert site.submits("new", None) == (202, first)
    site.types("root", "admin", "groups", "share", "house", "--everyone")
    assert site.submits("new", None) == (202, default)
    assert site.api("new").get("/v1/default-group").json()["id"] == default
    task_id = site.types("new", *run).strip()
    assert site.api("new").get(f"/tasks/{task_id}").json()["machine_group_name"] == "house"
    # One's own group `local` comes first, as it did.
    assert site.submits("mallory", None) == (202, trap)
    # Another takes its place, and it can be none.
    other = site.group("root", "house-2", shared=True)
    site.types("root", "admin", "groups", "default", "house-2")
    assert site.submits("new", None) == (202, other)
    site.types("root", "admin", "groups", "default", "house-2", "--off")
    assert site.submits("new", None) == (202, first)
    told = site.types("root", "admin", "groups", "default", "first", fails=True)
    assert "'first' belongs to new, who is not an operator" in told
    site.end(trap)


def test_shares_of_a_group_that_has_ended_are_not_shown(site: Site) -> None:
    group = site.group("ann", "gone")
    site.types("ann", "resources", "share", "gone", "bob")
    site.end(group)
    assert "gone" not in {row["group"] for row in site.api("bob").get("/v1/group-offers").json()}
    told = site.api("bob").post(f"/v1/group-offers/{group}/accept")
    assert told.status_code == 409
    with site.rt.store.read() as session:
        assert session.query(GroupShare).filter(GroupShare.group_id == group).count() == 1


def test_providers_are_narrowed_by_operators(site: Site) -> None:
    site.api("ann")
    shown = site.types("root", "admin", "users", "providers", "ann", "external")
    assert "ann may start machines with: external" in shown
    status, said = _registers(site, "ann", "any", provider="local")
    assert status == 422
    assert "There are none" in said
    found = site.api("ann").get("/compute/machine_types", params={"provider_id": "GCP"})
    assert found.status_code == 422
    assert "There are none" in found.json()["detail"]
    assert site.api("bob").get("/compute/machine_types").json()
    assert "external" in site.types("root", "admin", "users", "list")
    site.types("root", "admin", "users", "providers", "ann", "--none")
    assert "none, of those that are on" in site.types("root", "admin", "users", "show", "ann")
    site.types("root", "admin", "users", "providers", "ann", "--all")
    assert _registers(site, "ann", "any", provider="local")[0] == 201
    told = site.types("root", "admin", "users", "providers", "ann", "moon", fails=True)
    assert "'moon' is not a provider. There are: local, docker, ec2, external" in told
    assert "Name providers" in site.types("root", "admin", "users", "providers", "ann", fails=True)
    audit = site.api("root").get("/v1/admin/audit", params={"subject": "ann"}).json()
    assert [e["action"] for e in audit if e["action"] == "providers_set"] == ["providers_set"] * 3


def test_sharing_the_group_of_an_ordinary_user_is_asked_about(site: Site) -> None:
    group = site.group("kim", "lair")
    site._user("bob")
    share = ("admin", "groups", "share", "lair")
    for whom in (("--everyone",), ("--with", "bob")):
        asked = site.types("root", *share, *whom, fails=True)
        assert "lair belongs to kim, who is not an operator." in asked
        assert "can read the inputs" in asked
        assert "say it with --yes" in asked
        assert site.submits("bob", group)[0] == 404
    assert "with everyone" in site.types("root", *share, "--everyone", "-y")
    assert site.submits("bob", group)[0] == 202
    site.end(group)


def test_a_default_that_no_user_may_use_is_pointed_out(site: Site) -> None:
    group = site.group("root", "hall")
    told = site.types("root", "admin", "groups", "default", "hall")
    assert "Nobody but its owner may use it yet" in told
    assert "`simherd admin groups share hall --everyone`" in told
    listed = {g["name"]: g for g in _listed(site)}
    assert (listed["hall"]["is_default"], listed["hall"]["shared_with"]) == (True, 0)
    assert " default " in _line(site, "hall")
    site.types("root", "admin", "groups", "share", "hall", "--with", "bob")
    assert " some, default " in _line(site, "hall")
    site.types("root", "admin", "groups", "share", "hall", "--everyone")
    assert " all, default " in _line(site, "hall")
    assert "may use it yet" not in site.types("root", "admin", "groups", "default", "hall")
    told = site.types("root", "admin", "groups", "unshare", "hall")
    assert "`simherd admin groups default hall --off`" in told
    site.end(group)


def _listed(site: Site) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = site.api("root").get("/v1/admin/groups").json()
    return found


def _line(site: Site, name: str) -> str:
    lines = site.types("root", "admin", "groups", "list").splitlines()
    return next(line for line in lines if line.startswith(f"{name} "))


def test_a_group_that_is_shared_with_one_is_ended_by_its_owner(site: Site) -> None:
    byname, open_ = site.group("lea", "byname"), site.group("root", "open", shared=True)
    site.api("kit")
    site.types("lea", "resources", "share", "byname", "kit")
    # It is offered, and not accepted yet.
    for words in (("run", "--on", "byname", "-I", "any", "--", "true"), _ends("byname")):
        told = site.types("kit", *words, fails=True)
        assert "'byname' of lea is offered to you: `simherd resources accept byname`" in told
    assert "there is no machine group 'byname'" in site.types("max", *_ends("byname"), fails=True)
    site.types("kit", "resources", "accept", "byname")
    told = site.types("kit", *_ends("byname"), fails=True)
    assert "'byname' is lea's and shared with you" in told
    assert "`simherd resources decline byname`" in told
    told = site.types("kit", *_ends("open"), fails=True)
    assert "'open' is root's" in told
    assert "decline" not in told
    for group in (byname, open_):
        site.end(group)


def _ends(name: str) -> tuple[str, ...]:
    return "resources", "terminate", name


def test_a_narrowed_user_is_shown_and_refused_in_words_for_users(site: Site) -> None:
    site.api("nina")
    start = ("resources", "start", "c2-standard-4")
    site.types("root", "admin", "users", "providers", "nina", "--none")
    told = site.types("nina", *start, fails=True)
    assert "you may start no machines. Ask an operator." in told
    for word in ("GCP", "SIMHERD_", "admin"):
        assert word not in told
    assert (
        site.types("nina", "resources", "available").strip() == "There are no such machine types."
    )
    site.types("root", "admin", "users", "providers", "nina", "--all")
    assert "c2-standard-4" in site.types("nina", "resources", "available")


def test_words_that_exclude_each_other_and_names_are_refused_with_the_rule(site: Site) -> None:
    for words in (
        ("admin", "quotas", "defaults", "ann", "--all-users"),
        ("admin", "users", "providers", "ann", "--all", "local"),
        ("resources", "terminate", "x", "--all"),
        ("tasks", "kill", "x", "--all"),
        ("storage", "remove", "x", "--all"),
        ("admin", "groups", "share", "x", "--everyone", "--with", "ann"),
    ):
        assert "not both" in site.types("root", *words, fails=True)
    status, said = _registers(site, "root", "a b")
    assert status == 422
    assert "name: use 1 to 63 lower-case letters, digits and hyphens" in said
    assert "a-z0-9" not in said


def test_a_missing_argument_is_refused_before_the_question(site: Site) -> None:
    group = site.group("root", "there")
    for words, sentence in (
        (("admin", "groups", "remove-machine", "there", "m"), "no machine 'm' in there of root"),
        (("admin", "groups", "remove-machine", "nil", "m"), "no machine group 'nil'"),
        (("admin", "users", "disable", "nobody", "--kill"), "no user 'nobody'"),
        (("storage", "remove", "nothing/here"), "nothing/here"),
        (("events", "remove", "no-such-event"), "no-such-event"),
        (("containers", "remove", "-n", "none.tar"), "none.tar"),
    ):
        told = site.types("root", *words, fails=True)
        assert sentence in told
        assert "?" not in told
    site.end(group)
