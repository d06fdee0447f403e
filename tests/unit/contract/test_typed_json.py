"""The typed reader: what was written comes back, and each wrong type is named."""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict, dataclass, field
from enum import Enum
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simherd.contract.attempt_spec import (
    PROTOCOL,
    AttemptSpec,
    Command,
    DeadlineWarning,
    InputFile,
)
from simherd.contract.backups import BackupManifest, BadBackup, TableSum
from simherd.contract.checkpoints import Checkpoints
from simherd.contract.inbox import Message
from simherd.contract.join import Membership
from simherd.contract.live_frames import Frame, LiveRequest
from simherd.contract.notifications import Observer
from simherd.contract.policy import Policy
from simherd.contract.reports import Report
from simherd.contract.typed_json import WrongJson, from_json, parse_object, to_json
from simherd.contract.upload_grant import Grant
from simherd.contract.webrtc_channel import ChannelRequest, RequestKind

#: What is drawn is large: a few examples find what many would.
few = settings(max_examples=20, deadline=None)
_bodies = st.dictionaries(st.text(), st.integers() | st.text() | st.none() | st.booleans())
_numbers = st.floats(allow_nan=False, allow_infinity=False)


class Colour(str, Enum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True)
class Inner:
    name: str


@dataclass(frozen=True)
class Outer:
    flag: bool
    number: int
    amount: float
    colour: Colour
    inner: Inner
    maybe: Inner | None = None
    names: tuple[str, ...] = ()
    inners: tuple[Inner, ...] = ()
    texts: dict[str, str] = field(default_factory=dict)
    anything: dict[str, Any] = field(default_factory=dict)


GOOD: dict[str, Any] = {
    "flag": True,
    "number": 1,
    "amount": 1.5,
    "colour": "red",
    "inner": {"name": "a"},
}


def test_every_kind_of_field_is_read() -> None:
    more = {"maybe": {"name": "b"}, "names": ["x"], "inners": [{"name": "c"}], "texts": {"k": "v"}}
    expected = Outer(
        True,
        1,
        1.5,
        Colour.RED,
        Inner("a"),
        Inner("b"),
        ("x",),
        (Inner("c"),),
        {"k": "v"},
        {"z": [1]},
    )
    assert from_json(Outer, {**GOOD, **more, "anything": {"z": [1]}}) == expected


def test_a_field_that_is_missing_has_its_default() -> None:
    read = from_json(Outer, GOOD)
    assert (read.maybe, read.names, read.texts) == (None, (), {})


def test_a_field_of_a_later_release_is_left_out() -> None:
    assert from_json(Outer, {**GOOD, "later": 1}) == from_json(Outer, GOOD)


def test_a_whole_number_is_a_number_too() -> None:
    assert from_json(Outer, {**GOOD, "amount": 2}).amount == 2


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"flag": 1}, "Outer.flag: true or false is needed, not 1"),
        ({"flag": "true"}, "Outer.flag"),
        ({"flag": None}, "Outer.flag"),
        ({"number": True}, "Outer.number: a whole number is needed, not True"),
        ({"number": 1.0}, "Outer.number"),
        ({"number": "1"}, "Outer.number"),
        ({"amount": True}, "Outer.amount: a number is needed"),
        ({"amount": "1.5"}, "Outer.amount"),
        ({"colour": "green"}, "Outer.colour: one of red, blue is needed, not 'green'"),
        ({"colour": []}, "Outer.colour"),
        ({"inner": "a"}, "Outer.inner: an object is needed, not 'a'"),
        ({"inner": {}}, "Outer.inner.name: is missing"),
        ({"inner": {"name": 3}}, "Outer.inner.name: a text is needed, not 3"),
        ({"maybe": []}, "Outer.maybe"),
        ({"names": "x"}, "Outer.names: a list is needed, not 'x'"),
        ({"names": ["x", 2]}, r"Outer.names\[1\]: a text is needed, not 2"),
        ({"inners": [{"name": None}]}, r"Outer.inners\[0\].name"),
        ({"texts": []}, "Outer.texts: an object is needed"),
        ({"texts": {"k": 1}}, "Outer.texts.k: a text is needed, not 1"),
        ({"anything": 1}, "Outer.anything"),
    ],
)
def test_a_wrong_type_is_named(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(WrongJson, match=words):
        from_json(Outer, {**GOOD, **wrong})


def test_a_long_value_is_cut_in_the_message() -> None:
    with pytest.raises(WrongJson) as caught:
        from_json(Outer, {**GOOD, "number": "x" * 10_000})
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("text", ["", "{", "[1]", "null", "1", '"a"', "[" * 100_000, b"\xff"])
def test_json_that_is_not_an_object_is_refused(text: str | bytes) -> None:
    with pytest.raises(WrongJson, match=r"^thing: "):
        parse_object(text, "thing")


@pytest.mark.parametrize(
    "decode",
    [
        AttemptSpec.decode,
        Report.decode,
        Message.decode,
        Membership.decode,
        Policy.decode,
        Frame.decode,
        ChannelRequest.read,
    ],
)
@few
@given(text=st.text() | _bodies.map(json.dumps))
def test_a_decoder_raises_the_one_error(decode: Any, text: str) -> None:
    with contextlib.suppress(WrongJson):
        decode(text)


def built(kind: type[Any], **fields: Any) -> Any:
    return st.builds(kind, **fields)


_commands = st.lists(
    built(
        Command,
        argv=st.lists(st.text()).map(tuple),
        prompts=st.lists(st.text()).map(tuple),
        env=st.dictionaries(st.text(), st.text()),
        mpi=st.booleans(),
    )
).map(tuple)
_observers = built(Observer, id=st.text(), path=st.text(), regex=st.none() | st.text())


@few
@given(
    built(
        AttemptSpec,
        commands=_commands,
        restore=_commands,
        input_url=st.none() | st.text(),
        grant=built(Grant),
        env=st.dictionaries(st.text(), st.text()),
        time_to_live_s=st.none() | _numbers,
        warning=built(DeadlineWarning, before_s=_numbers),
        input_files=st.lists(built(InputFile)).map(tuple),
        shared_inputs=st.lists(st.text()).map(tuple),
        checkpoints=st.none()
        | built(
            Checkpoints,
            files=st.lists(st.text()).map(tuple),
            every_s=_numbers,
            stored=st.booleans(),
        ),
        observers=st.lists(_observers).map(tuple),
        input_bytes=st.none() | st.integers(),
        protocol=st.just(PROTOCOL),
    )
)
def test_a_specification_survives_a_round_trip(spec: AttemptSpec) -> None:
    assert AttemptSpec.decode(spec.encode()) == spec


@few
@given(built(Report, at=_numbers, body=_bodies, protocol=st.just(PROTOCOL)))
def test_a_report_survives_a_round_trip(report: Report) -> None:
    assert Report.decode(report.encode()) == report


@few
@given(built(Message, deadline_at=st.none() | _numbers, body=_bodies))
def test_a_message_survives_a_round_trip(message: Message) -> None:
    assert Message.decode(message.encode()) == message


@few
@given(built(Membership, policy=_bodies))
def test_a_membership_survives_a_round_trip(membership: Membership) -> None:
    assert Membership.decode(json.dumps(asdict(membership))) == membership


@few
@given(_observers)
def test_an_observer_survives_a_round_trip(observer: Observer) -> None:
    assert from_json(Observer, json.loads(to_json(observer))) == observer


@few
@given(
    built(
        BackupManifest,
        created_at=_numbers,
        tables=st.dictionaries(st.text(), built(TableSum)),
        format=st.just(1),
    )
)
def test_a_manifest_survives_a_round_trip(manifest: BackupManifest) -> None:
    assert BackupManifest.decode(manifest.encode().encode()) == manifest


@pytest.mark.parametrize("text", [b"", b"[]", b'{"format": 1}', b'{"format": 1, "tables": 3}'])
def test_a_manifest_that_cannot_be_read_is_a_bad_backup(text: bytes) -> None:
    with pytest.raises(BadBackup, match="cannot be read"):
        BackupManifest.decode(text)


def test_a_manifest_of_a_later_format_names_the_release_to_use() -> None:
    with pytest.raises(BadBackup, match=r"format 2, and this Simherd reads 1.* it, 9.9"):
        BackupManifest.decode(b'{"format": 2, "simherd": "9.9"}')


@pytest.mark.parametrize("protocol", [None, 0, PROTOCOL + 1, "1"])
@pytest.mark.parametrize("kind", [AttemptSpec, Report])
def test_another_protocol_is_refused(kind: Any, protocol: Any) -> None:
    with pytest.raises(WrongJson, match="protocol"):
        kind.decode(json.dumps({"protocol": protocol}))


@pytest.mark.parametrize(
    "change",
    [
        {"request": "no such name"},
        {"request": 3},
        {"ask": "everything"},
        {"files": "a"},
        {"lines": "10"},
        {"follow": 1},
        {"offsets": [1, 2]},
        {"offsets": ["1"]},
    ],
)
def test_a_live_request_that_cannot_be_is_refused(change: dict[str, Any]) -> None:
    body = {"request": "0" * 32, "ask": "tail", "files": ["a"], "offsets": [-1]}
    assert LiveRequest.read(body).files == ("a",)
    with pytest.raises(WrongJson):
        LiveRequest.read({**body, **change})


def test_a_live_request_without_offsets_begins_with_the_last_lines() -> None:
    read = LiveRequest.read({"request": "0" * 32, "ask": "tail", "files": ["a", "b"]})
    assert read.offsets == (-1, -1)


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        ({}, "type: one of ls, tail"),
        ({"type": "rm"}, "type: one of ls, tail"),
        ({"type": "ls", "follow": 1}, "follow: true or false"),
        ({"type": "ls", "args": [1]}, "args: an object"),
        ({"type": "tail"}, "args.filename: is missing"),
        ({"type": "tail", "args": {"filename": ""}}, "filename: the name of a file"),
        ({"type": "tail", "args": {"filename": "a", "lines": -1}}, "lines: must be 0 to"),
        ({"type": "tail", "args": {"filename": "a", "lines": True}}, "lines: a whole number"),
        ({"type": "tail", "args": {"filename": "a", "wait": "no"}}, "wait: true or false"),
    ],
)
def test_a_request_of_the_channel_says_what_is_wrong(sent: dict[str, Any], words: str) -> None:
    with pytest.raises(WrongJson, match=words):
        ChannelRequest.read(json.dumps(sent))


def test_a_request_of_the_channel_is_read() -> None:
    sent = {"type": "tail", "follow": True, "args": {"filename": "log", "lines": 3, "wait": True}}
    expected = ChannelRequest(RequestKind.TAIL, follow=True, file="log", lines=3, wait=True)
    assert ChannelRequest.read(json.dumps(sent)) == expected
