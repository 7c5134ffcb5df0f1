"""When a schedule fires: the calculation, without a clock.

A repeating rule is reckoned from when it was due, not from when it was handled, so lateness never adds up. What was
missed is skipped: after a pause there is one firing, and then the next one that lies in the future.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

__all__ = ["ScheduleRule"]

SHORTEST_PERIOD_S: Final = 1.0
_ANY_MOMENT: Final = datetime(2024, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleRule:
    """When a schedule fires: one of `at`, `after`, `every` and `cron` is set.

    `at` is in UTC. `after` and `every` are seconds, from the moment of scheduling. `cron` has the five fields of a
    crontab line or is one of `@hourly`, `@daily`, `@weekly`, `@monthly` and `@yearly`, in `time_zone`, an IANA name;
    None is UTC.
    """

    at: datetime | None = None
    after: float | None = None
    every: float | None = None
    cron: str | None = None
    time_zone: str | None = None

    @classmethod
    def of(
        cls,
        *,
        at: datetime | None = None,
        after: float | timedelta | None = None,
        every: float | timedelta | None = None,
        cron: str | None = None,
        time_zone: str | None = None,
    ) -> ScheduleRule:
        """Check and normalise what a caller wrote.

        Raises:
            ValueError: not exactly one rule, or one that can't be followed; the text says what to write instead.
        """
        rules = {"at": at, "after": after, "every": every, "cron": cron}
        given = [name for name, value in rules.items() if value is not None]
        if len(given) != 1:
            raise ValueError(
                f"A schedule has exactly one of at, after, every and cron, not {' and '.join(given) or 'none'}"
            )
        if time_zone is not None and cron is None:
            raise ValueError(f"time_zone goes with cron only: `{given[0]}` means a moment, whatever the zone")
        if at is not None:
            return cls(at=_moment(at))
        if after is not None:
            return cls(after=_seconds("after", after, at_least=0))
        if every is not None:
            return cls(every=_seconds("every", every, at_least=SHORTEST_PERIOD_S))
        assert cron is not None
        rule = cls(cron=" ".join(cron.split()), time_zone=time_zone)
        _check_zone(time_zone)
        try:
            rule._cron_after(_ANY_MOMENT)
        except CronSimError as error:
            raise ValueError(f"{cron!r} is not a cron expression: {error}") from error
        return rule

    @property
    def repeats(self) -> bool:
        return self.every is not None or self.cron is not None

    def first(self, now: datetime) -> datetime:
        """Return when a schedule that is made now fires first, in UTC.

        Raises:
            ValueError: in no year that can be written.
        """
        if self.at is not None:
            return self.at
        if self.cron is not None:
            return self._cron_after(now)
        seconds = self.after if self.after is not None else self.every
        assert seconds is not None
        try:
            return now.astimezone(UTC) + timedelta(seconds=seconds)
        except OverflowError as error:
            raise ValueError(f"{seconds:g} seconds from now is after the year 9999") from error

    def following(self, due: datetime, now: datetime) -> datetime | None:
        """Return when it fires next after the firing that was due at `due`, later than now; None: never again."""
        if self.cron is not None:
            return self._cron_after(max(due, now))
        if self.every is None:
            return None
        period = timedelta(seconds=self.every)
        # Whole periods, so that the phase stays, however many were missed.
        missed = max(now - due, timedelta()) // period
        return due + (missed + 1) * period

    def __str__(self) -> str:
        if self.at is not None:
            return f"at {utc_text(self.at)}"
        if self.after is not None:
            return f"after {self.after:g} s"
        if self.every is not None:
            return f"every {self.every:g} s"
        return f"cron {self.cron}"

    def to_json(self) -> dict[str, Any]:
        """Return the rule as JSON values."""
        values = {
            "at": None if self.at is None else utc_text(self.at),
            "after": self.after,
            "every": self.every,
            "cron": self.cron,
            "time_zone": self.time_zone,
        }
        return {name: value for name, value in values.items() if value is not None}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> ScheduleRule:
        """Read what `to_json` returned; other members are ignored. Whether this process knows the time zone shows only
        when the rule is followed.

        Raises:
            ValueError, TypeError: it is not a rule.
        """
        at = values.get("at")
        if sum(name in values for name in ("at", "after", "every", "cron")) != 1:
            raise ValueError("a rule has exactly one of at, after, every and cron")
        return cls(
            at=None if at is None else _moment(datetime.fromisoformat(at)),
            after=_optional("after", values.get("after"), at_least=0),
            every=_optional("every", values.get("every"), at_least=SHORTEST_PERIOD_S),
            cron=_optional_text(values.get("cron")),
            time_zone=_optional_text(values.get("time_zone")),
        )

    def _cron_after(self, moment: datetime) -> datetime:
        assert self.cron is not None
        zone = UTC if self.time_zone is None else ZoneInfo(self.time_zone)
        try:
            due = next(CronSim(_fields(self.cron), moment.astimezone(zone)))
        except StopIteration:
            raise ValueError(f"{self.cron!r} names no day within the next fifty years") from None
        return due.astimezone(UTC)


def utc_text(moment: datetime) -> str:
    """Write a moment as ISO 8601 in UTC, with a Z."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


_NAMED: Final = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}


def _fields(cron: str) -> str:
    if cron.startswith("@"):
        named = _NAMED.get(cron.lower())
        if named is None:
            raise CronSimError(f"the names are {', '.join(_NAMED)}")
        return named
    if len(cron.split()) != 5:
        raise CronSimError("it has five fields: minute, hour, day of the month, month, day of the week")
    return cron


def _moment(at: datetime) -> datetime:
    if not isinstance(at, datetime):
        raise TypeError(f"at={at!r} is not a datetime with a time zone")
    if at.tzinfo is None or at.utcoffset() is None:
        raise ValueError(f"at={at.isoformat()} has no time zone: write datetime(..., tzinfo=ZoneInfo(...)) or UTC")
    return at.astimezone(UTC)


def _seconds(name: str, value: float | timedelta, *, at_least: float) -> float:
    seconds = value.total_seconds() if isinstance(value, timedelta) else float(value)
    if not math.isfinite(seconds) or seconds < at_least:
        raise ValueError(f"{name}={seconds:g} is not a number of seconds of at least {at_least:g}")
    return seconds


def _optional(name: str, value: Any, *, at_least: float) -> float | None:
    return None if value is None else _seconds(name, value, at_least=at_least)


def _optional_text(value: Any) -> str | None:
    if value is not None and not isinstance(value, str):
        raise TypeError(f"{value!r} is not a text")
    return value


def _check_zone(name: str | None) -> None:
    try:
        ZoneInfo("UTC" if name is None else name)
    except (KeyError, ValueError, OSError) as error:
        raise ValueError(f"{name!r} is not a time zone: use an IANA name such as Europe/Berlin") from error
