"""What is done about a source's words, at which times; no clock runs here."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from executor.spot.decide import (
    CLOCK_OFF_S,
    OVER_S,
    SAME_S,
    SILENT_S,
    LogChoice,
    NoticeAction,
    NoticeTracker,
    SourceErrors,
)
from executor.spot.notice import ReclaimNotice, SourceError
from executor.spot.parse import FARTHEST_S, believable, fields_of, seconds_of
from executor.spot.sources import open_source

ERROR = SourceError("500")
NOTHING, TELL, OVER = NoticeAction.NOTHING, NoticeAction.NOTIFY, NoticeAction.OVER


def at(reclaim_at: float) -> ReclaimNotice:
    return ReclaimNotice(reclaim_at, "test")


def acts(*seen: tuple[float, ReclaimNotice | Exception | None]) -> list[NoticeAction]:
    judge = NoticeTracker()
    return [judge.observe(now, what) for now, what in seen]


def test_a_notice_is_reported_once() -> None:
    assert acts((0, None), (5, at(120)), (10, at(120)), (15, at(121)), (20, at(118))) == [
        *(NOTHING, TELL, NOTHING, NOTHING, NOTHING)
    ]


def test_an_earlier_deadline_is_reported_and_a_later_one_is_not() -> None:
    assert acts((0, at(120)), (1, at(30)), (2, at(120)), (3, at(30))) == [
        *(TELL, TELL, NOTHING, NOTHING)
    ]


def test_a_deadline_that_creeps_nearer_is_reported_when_it_matters() -> None:
    creeping = [(float(n), at(100 - n)) for n in range(9)]
    assert acts(*creeping) == [TELL, *[NOTHING] * 3, TELL, *[NOTHING] * 3, TELL]


def test_errors_neither_begin_nor_end_a_notice() -> None:
    assert acts((0, ERROR), (1, at(31)), (2, ERROR), (95, ERROR), (96, None)) == [
        *(NOTHING, TELL, NOTHING, NOTHING, OVER)
    ]


def test_a_source_that_fails_for_long_does_not_keep_a_machine_idle() -> None:
    late = 30 + OVER_S + SILENT_S
    assert acts((0, at(30)), (late - 1, ERROR), (late, ERROR), (late + 1, ERROR)) == [
        *(TELL, NOTHING, OVER, NOTHING)
    ]


@pytest.mark.parametrize("then", [None, at(30)], ids=["withdrawn", "stale"])
def test_a_notice_is_over_once_when_the_machine_is_still_there(then: ReclaimNotice | None) -> None:
    assert acts((0, at(30)), (89, then), (90, then), (91, then), (1000, then)) == [
        *(TELL, NOTHING, OVER, NOTHING, NOTHING)
    ]


def test_a_withdrawn_notice_that_returns_after_its_end_is_new() -> None:
    assert acts((0, at(120)), (10, None), (20, at(120)), (30, None), (180, None)) == [
        *(TELL, NOTHING, NOTHING, NOTHING, OVER)
    ]
    assert acts((0, at(30)), (90, at(30)), (91, None), (92, at(122)), (93, at(122))) == [
        *(TELL, OVER, NOTHING, TELL, NOTHING)
    ]


def test_a_new_notice_after_a_stale_one_is_reported() -> None:
    assert acts((0, at(30)), (90, at(30)), (91, at(30)), (95, at(215)), (96, at(215))) == [
        *(TELL, OVER, NOTHING, TELL, NOTHING)
    ]


def test_a_notice_after_the_deadline_is_reported_and_waited_for() -> None:
    assert acts((0, at(30)), (40, at(160)), (90, at(160)), (219, None), (220, None)) == [
        *(TELL, TELL, NOTHING, NOTHING, OVER)
    ]


def test_a_postponed_machine_is_waited_for_longer() -> None:
    assert acts((0, at(30)), (20, at(80)), (100, None), (139, None), (140, None)) == [
        *(TELL, NOTHING, NOTHING, NOTHING, OVER)
    ]


def test_a_notice_that_came_to_nothing_before_the_agent_began_is_ignored() -> None:
    assert acts((1000, at(900)), (1001, at(900)), (1002, at(1100))) == [NOTHING, NOTHING, TELL]
    assert acts((1000, at(1000 - OVER_S + 1))) == [TELL]


def test_a_notice_that_comes_up_late_is_heeded_as_by_a_clock_that_is_ahead() -> None:
    assert acts((1000, None), (1005, at(1005 - CLOCK_OFF_S)), (1064, None), (1065, None)) == [
        *(NOTHING, TELL, NOTHING, OVER)
    ]
    assert acts((1000, None), (1005, at(1000 - CLOCK_OFF_S))) == [NOTHING, NOTHING]


_SEEN = st.one_of(
    st.none(), st.just(ERROR), st.integers(0, 600).map(lambda reclaim_at: at(float(reclaim_at)))
)
_LOOKS = st.lists(st.tuples(st.integers(1, 90), _SEEN), max_size=60)


@given(_LOOKS)
def test_any_input_gives_ordered_events_and_an_end(
    looks: list[tuple[int, ReclaimNotice | Exception | None]],
) -> None:
    judge, now, told = NoticeTracker(), 0.0, None
    for pause_s, seen in looks:
        now += pause_s
        act = judge.observe(now, seen)
        if act is TELL:
            assert isinstance(seen, ReclaimNotice)
            # A deadline that was told of comes again only as an earlier one, or when it is past.
            if told is not None:
                earlier = seen.reclaim_at < told.reclaim_at - SAME_S
                assert earlier or told.reclaim_at <= now < seen.reclaim_at
            told = seen
        elif act is OVER:
            assert told is not None
            assert now >= told.reclaim_at + OVER_S
            told = None
    last = next((seen for _, seen in reversed(looks)), None)
    for seen in (None, last if isinstance(last, ReclaimNotice) else None):
        after = judge.observe(now + 10_000, seen)
        assert after is not TELL
        assert (after is OVER) == (told is not None)
        told = None


def words(*looks: tuple[float, bool]) -> list[LogChoice]:
    silence = SourceErrors(0)
    return [silence.observe(now, failed=failed) for now, failed in looks]


def test_errors_are_logged_once_and_once_more_when_nothing_else_comes() -> None:
    looks = [(float(now), True) for now in range(5, 1000, 5)] + [(1000.0, False), (1005.0, False)]
    said = [
        (now, word)
        for (now, _), word in zip(looks, words(*looks), strict=True)
        if word is not LogChoice.NOTHING
    ]
    assert said == [(5, LogChoice.WARN), (SILENT_S, LogChoice.ALARM), (1000, LogChoice.BACK)]


def test_a_source_that_fails_at_every_other_look_does_not_fill_the_log() -> None:
    said = words(*((float(now), now % 2 == 1) for now in range(1, 361)))
    assert said.count(LogChoice.WARN) == 2
    assert said.count(LogChoice.BACK) == 2
    assert LogChoice.ALARM not in said


def test_the_alarm_is_raised_again_after_a_reply() -> None:
    said = words((1, True), (200, True), (201, False), (202, True), (380, True), (381, True))
    assert said == [
        *(
            LogChoice.WARN,
            LogChoice.ALARM,
            LogChoice.BACK,
            LogChoice.NOTHING,
            LogChoice.WARN,
            LogChoice.ALARM,
        ),
    ]


def test_silence_is_counted_from_the_last_answer() -> None:
    silence = SourceErrors(100)
    assert silence.silent_s(103) == 3
    silence.observe(110, failed=True)
    assert silence.silent_s(110) == 10
    silence.observe(120, failed=False)
    assert silence.silent_s(120) == 0


@pytest.mark.parametrize(
    "text",
    [
        *("AWS", "ec2", "ftp://host/x", "file:", "file:///", "file://elsewhere/x", "/run/notice"),
        *("http://", "https:///path", "http://host:0/", "http://host:99999/", "http://[::1/"),
        *("file:///x?y", "file:///%00", " ", "http://a b/", "http://\x00/"),
    ],
)
def test_a_setting_that_names_no_source_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"SIMHERD_SPOT_NOTICES is .* it can be aws, gcp, azure"):
        open_source(text)


@pytest.mark.parametrize(
    ("text", "name", "every_s"),
    [
        ("aws", "aws", 5),
        ("gcp", "gcp", 1),
        ("azure", "azure", 1),
        ("file:///run/a%20notice", "file:///run/a%20notice", 0.25),
        ("http://user:secret@host:81/notice?key=secret", "http://host:81/notice", 1),
        ("https://host/notice", "https://host/notice", 1),
    ],
)
def test_a_setting_names_a_source_without_its_secrets(text: str, name: str, every_s: float) -> None:
    source = open_source(text)
    assert source is not None
    assert (source.name, source.every_s) == (name, every_s)
    source.close()
    source.close()


def test_without_a_setting_there_is_no_source() -> None:
    assert open_source("") is None


@pytest.mark.parametrize(
    "text",
    ["", "<html>", "[]", "1", "null", '{"a": ', "[" * 100_000, "9" * 5000, "\ud800"],
)
def test_junk_is_not_an_object(text: str) -> None:
    with pytest.raises(SourceError):
        fields_of(text)


@pytest.mark.parametrize("value", [None, True, "5", [], {}, float("nan"), float("inf"), 10**400])
def test_junk_is_not_a_number_of_seconds(value: object) -> None:
    with pytest.raises(SourceError):
        seconds_of({"in_s": value}, "in_s")


def test_only_times_near_now_are_believed() -> None:
    now = 1.8e9
    for good in (now - FARTHEST_S, now, now + FARTHEST_S):
        assert believable(good, now) == good
    for bad in (0, now - FARTHEST_S - 1, now + FARTHEST_S + 1, float("nan"), float("inf")):
        with pytest.raises(SourceError):
            believable(bad, now)
