"""Planned times: against a search minute by minute, through the changes of the clocks, and against systemd's own."""

import re
import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from itertools import islice

import pytest
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st

from actors.errors import InputError
from cluster.schedule.systemd import calendar
from cluster.schedule.timetable import Timetable
from commands import lightmill

MINUTE = timedelta(minutes=1)
CHANGES = [
    ("Europe/Berlin", datetime(2027, 3, 27, tzinfo=UTC)),
    ("Europe/Berlin", datetime(2027, 10, 30, tzinfo=UTC)),
    ("America/New_York", datetime(2027, 3, 13, 12, tzinfo=UTC)),
    ("America/New_York", datetime(2027, 11, 6, 12, tzinfo=UTC)),
    ("Australia/Lord_Howe", datetime(2027, 4, 2, 12, tzinfo=UTC)),  # by half an hour
    ("Australia/Lord_Howe", datetime(2027, 10, 2, tzinfo=UTC)),
    ("Pacific/Apia", datetime(2011, 12, 29, tzinfo=UTC)),  # a whole day is left out
    ("Asia/Kathmandu", datetime(2027, 1, 1, tzinfo=UTC)),
    ("UTC", datetime(2027, 2, 28, tzinfo=UTC)),
]
"""A zone, and a day before its clocks change, if they do."""
DAYS = 2


def number(low, high):
    return st.integers(low, high)


def field(low, high):
    """One of the five, in all the ways in which it may be written."""
    return st.one_of(
        st.just("*"),
        st.builds("*/{}".format, number(2, max(2, high // 2))),
        st.lists(number(low, high), min_size=1, max_size=3, unique=True).map(lambda values: ",".join(map(str, values))),
        st.tuples(number(low, high), number(low, high)).map(lambda ends: "{}-{}".format(*sorted(ends))),
        st.tuples(number(low, high), number(low, high), number(1, 9)).map(
            lambda parts: f"{min(parts[:2])}-{max(parts[:2])}/{parts[2]}"
        ),
    )


crons = st.tuples(field(0, 59), st.one_of(st.sampled_from(["2", "*", "1-3", "*/2"]), field(0, 23))).map(
    lambda parts: f"{parts[0]} {parts[1]} * * *"
)


def utc(times):
    """Two times of one zone are equal for Python, although an hour that clocks show twice lies between them."""
    return [time.astimezone(UTC) for time in times]


def searched(timetable, begin, end):
    """The planned times in a while, minute by minute, as the page says of them."""
    minutes, hours = timetable.values[:2]

    def planned(wall):
        return (minutes is None or wall.minute in minutes) and (hours is None or wall.hour in hours)

    found, seen = [], None
    minute = begin - timedelta(days=2)
    while minute <= end:
        wall = minute.astimezone(timetable.zone).replace(tzinfo=None)
        if timetable.is_hourly:
            due = planned(wall)
        else:
            reached = (
                [wall] if seen is None else [seen + MINUTE * step for step in range(1, (wall - seen) // MINUTE + 1)]
            )
            due = any(planned(one) for one in reached)  # each wall once, also those that are skipped
            seen = wall if seen is None else max(seen, wall)
        if due and begin < minute:
            found.append(minute)
        minute += MINUTE
    return found


@settings(max_examples=60, phases=(Phase.explicit, Phase.reuse, Phase.generate))  # to shrink one takes minutes
@given(crons, st.sampled_from(CHANGES))
def test_every_planned_time_and_no_other(cron, change):
    zone, begin = change
    end = begin + timedelta(days=DAYS)
    timetable = Timetable(cron, zone)
    assert utc(timetable.until(end, begin)) == searched(timetable, begin, end)


@example("* 2 * * *", CHANGES[0], 1500)  # the end of an hour that is skipped
@given(crons, st.sampled_from(CHANGES), st.integers(0, DAYS * 1440))
def test_the_last_one_is_the_last_of_all(cron, change, minutes):
    zone, begin = change
    timetable, moment = Timetable(cron, zone), begin + timedelta(minutes=minutes)
    (last,) = timetable.until(moment)
    following = next(timetable.after(last))
    assert last.astimezone(UTC) <= moment < following.astimezone(UTC)
    assert last in timetable
    assert following in timetable


@pytest.mark.parametrize(
    ("cron", "after", "expected"),
    [
        ("30 2 * * *", "2027-03-27T12:00", ["28 03:00 CEST", "29 02:30 CEST"]),
        ("30 2 * * *", "2027-10-30T12:00", ["31 02:30 CEST", "01 02:30 CET"]),
        ("30 * * * *", "2027-03-28T01:00", ["28 01:30 CET", "28 03:30 CEST"]),
        ("30 * * * *", "2027-10-31T01:45", ["31 02:30 CEST", "31 02:30 CET", "31 03:30 CET"]),
        ("0 2,3 * * *", "2027-03-27T12:00", ["28 03:00 CEST", "29 02:00 CEST"]),  # two in one
        ("0 0 29 2 *", "2027-01-01T00:00", ["29 00:00 CET"]),
    ],
)
def test_through_the_changes_of_berlins_clocks(cron, after, expected):
    words = ["schedule", "next", cron, "--timezone", "Europe/Berlin", "--after", after, "--count", len(expected)]
    said = lightmill(*words)
    assert said.status == 0
    assert [re.search(r"-(\d\d \d\d:\d\d \w+) ", line)[1] for line in said.out.splitlines()] == expected
    assert len(lightmill(*words, "--json").json["times"]) == len(expected)


@pytest.mark.parametrize(
    "cron",
    [
        *(
            "",
            "0 2 * *",
            "0 2 * * * *",
            "60 * * * *",
            "0 24 * * *",
            "0 0 31 2 *",
            "0 0 L * *",
            "0 0 ? * *",
            "H * * * *",
        ),
        *(
            "R * * * *",
            "0 0 * * 1#2",
            "0 2 */2 * 1",
            "5/15 * * * *",
            "*,5 * * * *",
            "@reboot",
            "a b c d e",
            "0 0 * foo *",
        ),
    ],
)
def test_what_daemons_do_not_understand_alike_is_refused(cron):
    said = lightmill("schedule", "next", cron)
    assert (said.status, said.codes) == (3, ["LM1701"])


@given(st.text(max_size=20))
def test_any_text_is_a_timetable_or_refused(text):
    for cron, zone, code in ((text, "UTC", "LM1701"), ("0 2 * * *", text, "LM1702")):
        problem = refusal(cron, zone)
        assert problem is None or problem.code == code


def refusal(cron, zone):
    """What is wrong; None of a timetable that has times."""
    try:
        return None if next(Timetable(cron, zone).after(datetime(2027, 1, 1, tzinfo=UTC))) else "no time"
    except InputError as error:
        return error.problems[0]


@pytest.mark.parametrize("zone", ["Europe/Atlantis", "", "Europe", "/etc/passwd", "../UTC"])
def test_what_is_no_zone(zone):
    assert lightmill("schedule", "next", "0 2 * * *", "--timezone", zone).codes == ["LM1702"]


@pytest.mark.parametrize(
    ("cron", "portable"),
    [
        ("*/15 2 * * *", "*/15 2 * * *"),
        ("0 9-17/4 * * mon-fri", "0 9,13,17 * * 1,2,3,4,5"),
        ("@weekly", "0 0 * * 0"),
        ("0 0 * jan,JUL 7", "0 0 * 1,7 0"),
    ],
)
def test_it_is_written_as_every_daemon_reads_it(cron, portable):
    timetable = Timetable(cron, "UTC")
    assert timetable.portable == portable
    begin = datetime(2027, 1, 1, tzinfo=UTC)
    same = islice(Timetable(portable, "UTC").after(begin), 50)
    assert list(islice(timetable.after(begin), 50)) == list(same)


ELAPSES = re.compile(r"(?:Next elapse|Iter\. #\d+|\(in UTC\)): \w+ ([\d-]+ [\d:]+) UTC")


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs systemd-analyze")
@pytest.mark.parametrize(
    "cron",
    ["0 2 * * *", "*/20 1-3 * * *", "30 4 1,15 * 5", "0 0 * 2 *", "5 4 * * sun", "59 23 28-31 * *", "0 */6 * * 1-5"],
)
def test_systemd_means_the_same(cron):
    now = datetime.now(UTC)
    timetable = Timetable(cron, "Asia/Kolkata")  # whose clocks never change
    said = subprocess.run(
        ["systemd-analyze", "calendar", "--iterations=20", *calendar(timetable)],
        capture_output=True,
        text=True,
        check=True,
        env={"TZ": "UTC", "PATH": "/usr/bin:/bin"},
    )
    elapses = sorted({datetime.fromisoformat(text).replace(tzinfo=UTC) for text in ELAPSES.findall(said.stdout)})
    assert len(elapses) >= 20
    ours = list(islice(timetable.after(now), 20))
    assert ours == elapses[:20]
