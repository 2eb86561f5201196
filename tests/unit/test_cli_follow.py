"""What a person sees of a run: the bar on a terminal, lines without one, and the summary."""

import io
from datetime import UTC, datetime

import pytest
from rich.console import Console

from cluster import follow
from cluster.follow import follower, summary
from cluster.words import count, duration, printable, rate, shares, size
from jobs.status import Status

NOW = datetime.now(UTC)


def status(done=40, **changes):
    values = {"name": "cats", "output": "out", "state": "running", "total": 100, "committed": done, "failed": 2}
    values |= {"filtered": 0, "images_per_second": 2.0, "eta_seconds": 75.0, "workers": 1, "workers_wanted": 2}
    values |= {"seconds": {}, "started_at": NOW, "updated_at": NOW}
    return Status.model_validate({**values, "done": done, **changes})


def test_a_frame_on_a_terminal():
    console = Console(file=io.StringIO(), force_terminal=True, width=110, color_system=None)
    with follower(console) as shown:
        shown.show(status())
        shown.say("worker 00-0000 is ready\x1b[2J")
        shown.show(status(done=60))
    frames = console.file.getvalue()
    last = [line for line in frames.replace("\r", "\n").splitlines() if "running" in line][-1]
    assert "60/100 2.0 images/s 1 min 15 s left" in last
    assert "1 of 2 workers, 2 failed" in last
    assert "worker 00-0000 is ready\\x1b[2J" in frames


def test_a_line_every_ten_seconds_without_a_terminal(monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(follow.time, "monotonic", lambda: clock[0])
    console = Console(file=io.StringIO(), width=20)
    with follower(console) as shown:
        for second in range(25):
            clock[0] = 100.0 + second
            shown.show(status(done=second))
    assert console.file.getvalue().splitlines() == [
        "running: 10/100 images, 2.0 images/s, 1 min 15 s left, 2 failed, 1 of 2 workers",
        "running: 20/100 images, 2.0 images/s, 1 min 15 s left, 2 failed, 1 of 2 workers",
    ]


def test_the_summary_says_what_the_start_cost():
    end = {
        "message": "finished",
        "totals": {
            "ok": 1990,
            "failed": 10,
            "filtered": 0,
            "data_files": 2,
            "data_bytes": 1_234_567,
            "errors": {"LM1003": 7, "LM1601": 3},
        },
        "made": 2000,
        "wall": 125.0,
        "rate": 16.0,
        "steady_rate": 20.0,
        "seconds": {"denoise": 90.0, "load": 9.9, "encode_wait": 0.1},
        "first_image": 12.34,
    }
    assert summary(end).splitlines() == [
        "finished",
        "  in all      1,990 images ok, 10 failed, 0 filtered; 2 files, 1.2 MB",
        "  no image    7 for LM1003, 3 for LM1601",
        "  this run    2,000 images in 2 min 05 s: 16.0 images/s (20.0 images/s once a worker was ready); "
        "the first after 12.3 s",
        "  workers     denoise 90% (1 min 30 s), load 10% (9.9 s)",
    ]


def test_the_summary_of_a_run_that_made_nothing_is_its_message():
    assert summary({"message": "refused", "wall": 1.0}) == "refused"


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (count(1, "row"), "1 row"),
        (count(2000, "row"), "2,000 rows"),
        (size(999), "999 B"),
        (size(1000), "1.0 kB"),
        (size(2.5e13), "25.0 TB"),
        (duration(4.21), "4.2 s"),
        (duration(59.97), "1 min 00 s"),
        (duration(3600 * 3 + 61), "3 h 01 min"),
        (rate(0.443), "0.44 images/s"),
        (rate(1234.5), "1,234.5 images/s"),
        (shares({"tail": 0.0}), ""),
        (printable("caf\u00e9 \u732b"), "caf\u00e9 \u732b"),
        (printable("a\x1b[2J\nb\u202e\x9b\ud800"), "a\\x1b[2J\\nb\\u202e\\x9b\\ud800"),
    ],
)
def test_words(said, expected):
    assert said == expected
