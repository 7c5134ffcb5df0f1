"""When schedules fire."""

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from croniter import croniter
from hypothesis import assume, example, given
from hypothesis import strategies as st

from hivewire.model.schedule_rules import ScheduleRule

NOW = datetime(2030, 1, 1, tzinfo=UTC)
ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe", "America/Sao_Paulo"]

moments = st.datetimes(datetime(2020, 1, 1), datetime(2040, 1, 1)).map(lambda moment: moment.replace(tzinfo=UTC))
delays = st.timedeltas(timedelta(), timedelta(days=400))
periods = st.floats(1, 1e7, allow_nan=False)


def cron_fields(low: int, high: int) -> st.SearchStrategy[str]:
    """Fields of a crontab line that any two programs understand alike."""
    number = st.integers(low, high)
    span = st.tuples(number, number).filter(lambda pair: pair[0] < pair[1]).map(lambda pair: f"{pair[0]}-{pair[1]}")
    step = st.integers(1, high).map(lambda size: f"*/{size}")
    items = st.one_of(number.map(str), span)
    return st.one_of(st.just("*"), step, st.lists(items, min_size=1, max_size=3).map(",".join))


# A star with a step in a field of days is for some programs a star, and for others not.
days = cron_fields(1, 28).filter(lambda field: "/" not in field)
weekdays = cron_fields(0, 6).filter(lambda field: "/" not in field)
expressions = st.tuples(cron_fields(0, 59), cron_fields(0, 23), days, cron_fields(1, 12), weekdays).map(" ".join)


def local(moment: str, zone: str, *, fold: int = 0) -> datetime:
    """Return a moment by its wall clock."""
    return datetime.fromisoformat(moment).replace(tzinfo=ZoneInfo(zone), fold=fold).astimezone(UTC)


class TestEvery:
    @given(periods, moments, delays)
    def test_it_stays_in_phase_and_skips_what_was_missed(self, period: float, due: datetime, late: timedelta) -> None:
        rule = ScheduleRule.of(every=period)

        following = rule.following(due, due + late)

        assert following is not None
        assert due + late < following <= due + late + timedelta(seconds=period)
        assert (following - due) % timedelta(seconds=period) == timedelta()

    @given(periods, moments)
    def test_a_clock_that_lags_repeats_no_firing(self, period: float, due: datetime) -> None:
        following = ScheduleRule.of(every=period).following(due, due - timedelta(seconds=30))

        assert following == due + timedelta(seconds=period)

    def test_it_fires_first_after_one_period(self) -> None:
        assert ScheduleRule.of(every=timedelta(minutes=5)).first(NOW) == NOW + timedelta(minutes=5)


class TestOnce:
    @given(moments, delays)
    def test_after_is_from_now_and_ends_with_it(self, now: datetime, delay: timedelta) -> None:
        rule = ScheduleRule.of(after=delay)

        assert rule.first(now) == now + delay
        assert rule.following(now + delay, now + delay) is None
        assert not rule.repeats

    @given(moments)
    def test_at_is_that_moment_in_any_zone(self, at: datetime) -> None:
        rule = ScheduleRule.of(at=at.astimezone(ZoneInfo("Asia/Kolkata")))

        assert rule.first(NOW) == at
        assert rule == ScheduleRule.of(at=at)
        assert rule.following(at, NOW) is None


class TestCron:
    @given(expressions, moments)
    @example("0 0 1 * 1", NOW)
    @example("*/7 * * * *", NOW)
    def test_it_agrees_with_another_program(self, expression: str, now: datetime) -> None:
        assert ScheduleRule.of(cron=expression).first(now) == croniter(expression, now).get_next(datetime)

    @given(expressions, moments, st.sampled_from(ZONES))
    def test_it_agrees_with_another_program_in_zones_where_no_clock_is_changed(
        self, expression: str, now: datetime, zone: str
    ) -> None:
        there = now.astimezone(ZoneInfo(zone))
        expected = croniter(expression, there).get_next(datetime)
        # Around a change of the clock they are known to differ; what holds then is said below.
        near = expected.replace(tzinfo=None)
        offsets = {
            (near + timedelta(hours=hours)).replace(tzinfo=ZoneInfo(zone), fold=fold).utcoffset()
            for hours in range(-26, 27, 2)
            for fold in (0, 1)
        }
        assume(len(offsets | {there.utcoffset()}) == 1)

        assert ScheduleRule.of(cron=expression, time_zone=zone).first(now) == expected

    @given(expressions, moments, st.sampled_from(ZONES), delays)
    def test_it_fires_later_than_now_and_than_it_was_due(
        self, expression: str, due: datetime, zone: str, late: timedelta
    ) -> None:
        rule = ScheduleRule.of(cron=expression, time_zone=zone)

        following = rule.following(due, due + late)

        assert following is not None
        assert following > due + late
        # What is missed is skipped, whether it is looked at once or twice.
        assert rule.following(due + late, due) == following

    @pytest.mark.parametrize(
        ("cron", "zone", "now", "expected"),
        [
            # The hour from two to three is left out: what is due in it fires once, when it would have been over.
            ("30 2 * * *", "Europe/Berlin", "2030-03-30T12:00", "2030-03-31T03:00"),
            ("30 3 * * *", "Europe/Berlin", "2030-03-30T12:00", "2030-03-31T03:30"),
            ("0 9 * * *", "Europe/Berlin", "2030-03-30T12:00", "2030-03-31T09:00"),
            # The hour from two to three comes twice: what is due at one time in it fires the first time only.
            ("30 2 * * *", "Europe/Berlin", "2030-10-27T02:30", "2030-10-28T02:30"),
            # What is due all the time goes on.
            ("*/30 * * * *", "Europe/Berlin", "2030-03-31T01:30", "2030-03-31T03:00"),
        ],
    )
    def test_changes_of_the_clock(self, cron: str, zone: str, now: str, expected: str) -> None:
        assert ScheduleRule.of(cron=cron, time_zone=zone).first(local(now, zone)) == local(expected, zone)

    def test_what_is_due_all_the_time_is_due_in_both_hours_that_come_twice(self) -> None:
        rule = ScheduleRule.of(cron="*/30 * * * *", time_zone="Europe/Berlin")
        due = local("2030-10-27T02:30", "Europe/Berlin")

        fired = [due := rule.first(due) for _ in range(3)]

        assert fired[0] == local("2030-10-27T02:00", "Europe/Berlin", fold=1)
        assert fired == [fired[0] + timedelta(minutes=30 * number) for number in range(3)]

    def test_two_fields_of_days_are_either_or(self) -> None:
        rule = ScheduleRule.of(cron="0 0 13 * FRI")
        due, fired = NOW, []
        for _ in range(4):
            due = rule.first(due)
            fired.append(due.day)

        # The 4th, 11th and 18th of January 2030 are Fridays.
        assert fired == [4, 11, 13, 18]

    @pytest.mark.parametrize(
        ("name", "line"),
        [
            ("@hourly", "0 * * * *"),
            ("@daily", "0 0 * * *"),
            ("@midnight", "0 0 * * *"),
            ("@weekly", "0 0 * * 0"),
            ("@monthly", "0 0 1 * *"),
            ("@yearly", "0 0 1 1 *"),
            ("@annually", "0 0 1 1 *"),
        ],
    )
    def test_names_stand_for_lines(self, name: str, line: str) -> None:
        assert ScheduleRule.of(cron=name).first(NOW) == ScheduleRule.of(cron=line).first(NOW)

    @pytest.mark.parametrize(
        "cron", ["", "* * * * * *", "60 * * * *", "* * 0 * *", "0 0 31 2 *", "@never", "a b c d e"]
    )
    def test_what_is_no_line_of_a_crontab_is_refused(self, cron: str) -> None:
        with pytest.raises(ValueError, match="cron"):
            ScheduleRule.of(cron=cron)

    @pytest.mark.parametrize("zone", ["Nowhere", "", "../etc/passwd", "/etc/passwd", "a\0b"])
    def test_what_is_no_time_zone_is_refused(self, zone: str) -> None:
        with pytest.raises(ValueError, match="IANA"):
            ScheduleRule.of(cron="@daily", time_zone=zone)


class TestJson:
    @given(
        st.one_of(
            moments.map(lambda at: ScheduleRule.of(at=at)),
            delays.map(lambda after: ScheduleRule.of(after=after)),
            periods.map(lambda every: ScheduleRule.of(every=every)),
            st.tuples(expressions, st.sampled_from([None, *ZONES])).map(
                lambda pair: ScheduleRule.of(cron=pair[0], time_zone=pair[1])
            ),
        )
    )
    def test_it_comes_back_as_it_was(self, rule: ScheduleRule) -> None:
        assert ScheduleRule.from_json(rule.to_json()) == rule

    def test_a_zone_that_is_unknown_here_can_be_read_but_not_followed(self) -> None:
        rule = ScheduleRule.from_json({"cron": "@daily", "time_zone": "Mars/Olympus", "new": 1})

        with pytest.raises(LookupError):
            rule.following(NOW, NOW)

    @pytest.mark.parametrize(
        "values",
        [
            {},
            {"every": 1, "after": 1},
            {"every": 0},
            {"at": "2030-01-01T00:00:00"},
            {"at": 5},
            {"cron": 5},
            {"every": []},
        ],
    )
    def test_what_is_no_rule_is_refused(self, values: dict[str, Any]) -> None:
        with pytest.raises((ValueError, TypeError)):
            ScheduleRule.from_json(values)


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        (ScheduleRule.of(at=NOW), "at 2030-01-01T00:00:00Z"),
        (ScheduleRule.of(after=1.5), "after 1.5 s"),
        (ScheduleRule.of(every=60), "every 60 s"),
        (ScheduleRule.of(cron=" 0  9 * * MON-FRI "), "cron 0 9 * * MON-FRI"),
    ],
)
def test_a_rule_as_text(rule: ScheduleRule, text: str) -> None:
    assert str(rule) == text
