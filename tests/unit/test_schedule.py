"""Slots, what is due, who may make it; and where schedules are written down and found again."""

import json
import os
import shutil
import subprocess
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from actors.errors import InputError
from actors.storage.opening import open_bucket
from cluster.schedule import crontab, systemd
from cluster.schedule.due import due
from cluster.schedule.firing import fire
from cluster.schedule.schedule import Schedule, read_marks
from cluster.schedule.slot import Slot
from cluster.schedule.timetable import Timetable
from commands import lightmill
from jobs.lease import Lease, LeaseHeld

NOW = datetime(2026, 11, 28, 2, 5, tzinfo=UTC)
NIGHTLY = Timetable("0 2 * * *", "UTC")
WORDS = ("--name", "nightly", "--cron", "0 2 * * *")
FAKE_CRONTAB = """#!/bin/sh
table="$(dirname "$0")/table"
case "$1" in
-l) cat "$table" 2>/dev/null || { echo "no crontab for me" >&2; exit 1; } ;;
-) cat > "$table" ;;
esac
"""


def write_job(folder: Path, **changes) -> Path:
    values = {"prompts": "prompts.csv", "output": "out/{date}", "models": [{"model": "fake", "workers": {"max": 1}}]}
    (folder / "prompts.csv").write_text("prompt\na\nb\n")
    path = folder / "job.yaml"
    path.write_text(json.dumps({**values, **changes}))
    return path


@pytest.fixture
def job(tmp_path):
    return write_job(tmp_path)


@pytest.fixture
def nightly(job):
    return Schedule(name="nightly", job=str(job), cron="0 2 * * *")


@pytest.fixture
def table(tmp_path, monkeypatch):
    """A crontab of the test's own."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "crontab").write_text(FAKE_CRONTAB)
    (folder / "crontab").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return folder / "table"


class Maker:
    """Notes the jobs it is given, and ends as it is told."""

    def __init__(self, *exit_codes):
        self.made, self._exit_codes = [], list(exit_codes)

    def __call__(self, spec):
        self.made.append((spec.output, spec.prompts))
        return self._exit_codes.pop(0) if self._exit_codes else 0

    @property
    def outputs(self):
        return [Path(output).name for output, _ in self.made]


def quiet(text):
    pass


def test_a_slot_is_known_by_its_name_and_time_in_utc():
    planned = next(Timetable("30 2 * * *", "Europe/Berlin").after(datetime(2026, 11, 27, 12, tzinfo=UTC)))
    slot = Slot("nightly", planned)
    assert slot.key == "20261128T0130Z"
    assert slot.fill("s3://b/{date}/x-{slot}") == "s3://b/2026-11-28/x-20261128T0130Z"


@pytest.mark.parametrize(
    ("missed", "late", "done", "expected"),
    [
        ("latest", timedelta(minutes=5), [], ["28"]),
        ("latest", timedelta(hours=5), [], ["28"]),
        ("latest", timedelta(minutes=5), ["28"], []),
        ("skip", timedelta(minutes=5), [], ["28"]),
        ("skip", timedelta(hours=5), [], []),
        ("all", timedelta(hours=5), [], ["26", "27", "28"]),
        ("all", timedelta(hours=5), ["27"], ["26", "28"]),
    ],
)
def test_what_is_due(missed, late, done, expected):
    since = datetime(2026, 11, 25, 12, tzinfo=UTC)
    now = datetime(2026, 11, 28, 2, tzinfo=UTC) + late
    keys = [f"202611{day}T0200Z" for day in done]
    found = due("nightly", NIGHTLY, since=since, now=now, done=keys, missed=missed)
    assert [f"{slot.planned:%d}" for slot in found] == expected


def test_a_new_schedule_begins_with_its_newest_slot(nightly):
    maker = Maker()
    outcomes = fire(nightly.model_copy(update={"missed": "all"}), "auto", maker, quiet, NOW)
    assert maker.outputs == ["2026-11-28"]
    assert [(one["slot"], one["exit_code"]) for one in outcomes] == [("20261128T0200Z", 0)]


def test_a_slot_is_made_once(nightly):
    maker = Maker()
    for _ in range(3):
        fire(nightly, "auto", maker, quiet, NOW)
        fire(nightly, "2026-11-28T02:00", maker, quiet, NOW)
    assert maker.outputs == ["2026-11-28"]


@pytest.mark.parametrize(("exit_code", "again"), [(0, False), (4, False), (1, True), (3, True), (5, True), (130, True)])
def test_a_slot_that_is_not_finished_is_made_again(nightly, exit_code, again):
    maker = Maker(exit_code)
    fire(nightly, "auto", maker, quiet, NOW)
    fire(nightly, "auto", maker, quiet, NOW)
    assert len(maker.made) == 1 + again


@pytest.mark.parametrize(("missed", "expected"), [("latest", ["2026-12-01"]), ("skip", ["2026-12-01"])])
def test_what_was_missed_is_left_out(nightly, missed, expected):
    one = nightly.model_copy(update={"missed": missed})
    fire(one, "auto", Maker(), quiet, NOW)
    maker = Maker()
    fire(one, "auto", maker, quiet, NOW + timedelta(days=3))
    assert maker.outputs == expected


def test_all_that_was_missed_is_made_the_oldest_first_until_interrupted(nightly):
    every = nightly.model_copy(update={"missed": "all"})
    fire(every, "auto", Maker(), quiet, NOW)
    maker = Maker(0, 130)
    fire(every, "auto", maker, quiet, NOW + timedelta(days=4))
    assert maker.outputs == ["2026-11-29", "2026-11-30"]
    fire(every, "auto", maker, quiet, NOW + timedelta(days=4))
    assert maker.outputs == ["2026-11-29", "2026-11-30", "2026-11-30", "2026-12-01", "2026-12-02"]


def test_two_at_once_are_forbidden_also_of_different_slots(nightly, tmp_path):
    fire(nightly, "auto", Maker(), quiet, NOW)
    ledger = open_bucket(str(tmp_path / "out" / "schedules" / "nightly"))
    maker = Maker()
    with Lease(ledger, "strong", "schedule run nightly"), pytest.raises(LeaseHeld, match="is being made already"):
        fire(nightly, "auto", maker, quiet, NOW + timedelta(days=1))
    assert maker.made == []
    fire(nightly, "auto", maker, quiet, NOW + timedelta(days=1))
    assert maker.outputs == ["2026-11-29"]


def test_a_reminder_that_is_not_due_leaves_no_trace(nightly, tmp_path):
    ledger = open_bucket(str(tmp_path / "out" / "schedules" / "nightly"))
    fire(nightly, "auto", Maker(), quiet, NOW)
    before, said = [info.key for info in ledger.list()], []
    for hour in range(1, 24):
        assert fire(nightly, "auto", Maker(), said.append, NOW + timedelta(hours=hour)) == []
    assert [info.key for info in ledger.list()] == before
    assert set(said) == {"no slot of nightly is due; the next is 2026-11-29 02:00 UTC"}


def test_the_leases_of_earlier_slots_go(nightly, tmp_path):
    leases = tmp_path / "out" / "schedules" / "nightly" / "leases"
    day, of_the_first = 24 * 3600, set()
    for number in range(3):
        fire(nightly, "auto", Maker(), quiet, NOW + timedelta(days=number))
        of_the_first = of_the_first or set(leases.iterdir())
        for lease in leases.iterdir():
            os.utime(lease, (time.time() - 2 * day, time.time() - 2 * day))
    left = set(leases.iterdir())
    assert len(left) <= 2
    assert left.isdisjoint(of_the_first)


def test_another_timetable_begins_anew(nightly):
    every = nightly.model_copy(update={"missed": "all"})
    fire(every, "auto", Maker(), quiet, NOW)
    maker = Maker()
    fire(every.model_copy(update={"cron": "0 */6 * * *"}), "auto", maker, quiet, NOW + timedelta(days=9))
    assert len(maker.made) == 1


def test_prompts_may_differ_from_slot_to_slot(tmp_path):
    job = write_job(tmp_path, prompts="s3://in/{date}.csv", output="out/{slot}")
    maker = Maker()
    fire(Schedule(name="n", job=str(job), cron="0 2 * * *"), "auto", maker, quiet, NOW)
    assert maker.made[0][1] == "s3://in/2026-11-28.csv"


@pytest.mark.parametrize(("slot", "code"), [("tomorrow", "LM1706"), ("2026-11-28T03:00", "LM1706")])
def test_a_slot_that_is_none(nightly, slot, code):
    with pytest.raises(InputError) as refused:
        fire(nightly, slot, Maker(), quiet, NOW)
    assert refused.value.code == code


def test_a_slot_is_asked_for_by_any_clock(nightly):
    maker = Maker()
    fire(nightly, "2026-11-28T03:00+01:00", maker, quiet, NOW)
    assert maker.outputs == ["2026-11-28"]


def test_templates_are_for_schedules_alone(job):
    for words in (("run", job), ("plan", job)):
        said = lightmill(*words)
        assert (said.status, said.codes) == (3, ["LM1704"])


@pytest.mark.parametrize(
    ("changes", "words", "code"),
    [
        ({"output": "out"}, WORDS, "LM1703"),
        ({"output": "s3://b-{date}/x"}, WORDS, "LM1703"),
        ({}, ("--name", "nightly", "--cron", "0 * * * *"), "LM1703"),
        ({}, ("--name", "Nightly!", "--cron", "0 2 * * *"), "LM1707"),
        ({}, ("--name", "nightly", "--cron", "soon"), "LM1701"),
        ({}, (*WORDS, "--timezone", "Mars"), "LM1702"),
        ({"sede": 1}, WORDS, "LM1101"),
    ],
)
def test_a_schedule_that_cannot_work_is_refused_before_it_is_installed(tmp_path, table, changes, words, code):
    said = lightmill("schedule", "add", write_job(tmp_path, **changes), *words, "--to", "cron")
    assert (said.status, said.codes) == (3, [code])
    assert not table.exists()


def test_it_is_added_listed_replaced_and_removed(job, table):
    table.write_text("# mine\n5 4 * * * true")
    assert lightmill("schedule", "add", job, *WORDS, "--to", "cron").status == 0
    lightmill("schedule", "add", job, "--name", "weekly", "--cron", "0 3 * * 1", "--to", "cron")
    lightmill("schedule", "add", job, "--name", "nightly", "--cron", "0 4 * * *", "--missed", "all", "--to", "cron")
    listed = lightmill("schedule", "list", "--json").json["schedules"]
    assert {(one["name"], one["cron"], one["kept_by"], one["missed"]) for one in listed} == {
        ("weekly", "0 3 * * 1", "cron", "latest"),
        ("nightly", "0 4 * * *", "cron", "all"),
    }
    assert all(one["next"] > datetime.now(UTC).isoformat()[:10] for one in listed)
    assert lightmill("schedule", "remove", "nightly").status == 0
    assert lightmill("schedule", "remove", "weekly").status == 0
    assert table.read_text() == "# mine\n5 4 * * * true\n"
    assert lightmill("schedule", "remove", "weekly").codes == ["LM1709"]
    assert lightmill("schedule", "list").out == ""


def test_a_cron_that_refuses_is_said(job, table):
    (table.parent / "crontab").write_text("#!/bin/sh\n[ $1 = -l ] || { echo 'errors in crontab file' >&2; exit 1; }\n")
    said = lightmill("schedule", "add", job, *WORDS, "--to", "cron")
    assert (said.status, said.codes) == (1, ["LM1708"])
    assert "errors in crontab file" in said.err


def test_a_percent_is_no_new_line_for_cron(tmp_path, table):
    folder = tmp_path / "100% cats"
    folder.mkdir()
    lightmill("schedule", "add", write_job(folder), *WORDS, "--to", "cron")
    (line,) = [line for line in table.read_text().splitlines() if "schedule run" in line]
    assert "100\\% cats" in line


@pytest.mark.parametrize(
    ("cron", "zone", "local", "expected"),
    [
        ("0 2 * * mon-fri", "Europe/Berlin", "Europe/Paris", "0 2 * * 1,2,3,4,5"),
        ("0 2 * * *", "Europe/Berlin", "UTC", "0 * * * *"),
        ("10,40 2 * * *", "Asia/Kolkata", "UTC", "10,40 * * * *"),
        ("10 2 * * *", "Asia/Kolkata", "UTC", "40 * * * *"),
        ("*/30 2 * * *", "Australia/Lord_Howe", "UTC", "0,30 * * * *"),
        ("* 2 * * *", "Europe/Berlin", "UTC", "* * * * *"),
    ],
)
def test_cron_is_told_by_the_clock_of_the_machine(nightly, monkeypatch, cron, zone, local, expected):
    one = nightly.model_copy(update={"cron": cron, "timezone": zone})
    monkeypatch.setattr(crontab, "_local_zone", lambda: Timetable("* * * * *", local).zone)
    line = crontab.render(one).splitlines()[2]
    assert line.startswith(f"{expected} /")


def test_units_of_systemd_are_installed_and_found_again(job, table, tmp_path):
    fake = table.parent / "systemctl"
    fake.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/said\n')
    fake.chmod(0o755)
    said = lightmill("schedule", "add", job, *WORDS, "--timezone", "Europe/Berlin", "--to", "systemd")
    assert said.status == 0
    assert "OnCalendar=*-*-* 02:00:00 Europe/Berlin\n" in Path(said.out.strip()).read_text()
    (one,) = lightmill("schedule", "list", "--json").json["schedules"]
    assert (one["name"], one["kept_by"]) == ("nightly", "systemd")
    lightmill("schedule", "remove", "nightly")
    assert list((tmp_path / "config" / "systemd" / "user").iterdir()) == []
    assert (tmp_path / "said").read_text().splitlines() == [
        "--user daemon-reload",
        "--user enable --now lightmill-nightly.timer",
        "--user disable --now lightmill-nightly.timer",
        "--user daemon-reload",
    ]


def test_a_systemd_that_refuses_leaves_nothing(job, table, tmp_path):
    fake = table.parent / "systemctl"
    fake.write_text("#!/bin/sh\necho 'Failed to connect to bus' >&2\nexit 1\n")
    fake.chmod(0o755)
    said = lightmill("schedule", "add", job, *WORDS, "--to", "systemd")
    assert (said.status, said.codes) == (1, ["LM1708"])
    assert list((tmp_path / "config" / "systemd" / "user").iterdir()) == []


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs systemd-analyze")
@pytest.mark.parametrize("mistake", ["", "OnCalender"])
def test_systemd_takes_the_units(nightly, tmp_path, mistake):
    odd = nightly.model_copy(
        update={"job": '/a "b" 100% $HOME/job.yaml', "cron": "0 2 1,15 * 5", "timezone": "Asia/Tokyo"}
    )
    for name, text in systemd.units(odd).items():
        (tmp_path / name).write_text(text.replace("OnCalendar", mistake or "OnCalendar"))
    said = subprocess.run(
        ["systemd-analyze", "--user", "verify", *sorted(tmp_path.glob("lightmill-*"))],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)},
    )
    assert bool(said.returncode or said.stderr) == bool(mistake), said.stderr


def test_words_are_quoted_for_systemd(nightly):
    odd = nightly.model_copy(update={"job": '/a "b" %h $HOME/job.yaml'})
    service = systemd.units(odd)["lightmill-nightly.service"]
    assert '"/a \\"b\\" %%h $$HOME/job.yaml"' in service


def test_a_mark_that_somebody_has_edited_is_passed_over(nightly):
    text = f"{nightly.mark}\n# lightmill schedule: {{oops\n# lightmill schedule: {{}}\n"
    assert read_marks(text) == [nightly]


@pytest.mark.parametrize("address", [None, "auto", "10.0.0.1:6379", "http://127.0.0.1:8265"])
def test_a_slot_is_made_here_or_submitted(job, monkeypatch, address):
    asked = []
    head = object()

    def submit(order, where, say):
        asked.append(("submitted", order.address, order.spec.output, where))
        return SimpleNamespace(id="lightmill-x", output=order.spec.output)

    def attend(found, *, as_json):
        asked.append(("followed", found.id, found.head))
        return 0

    def drive(order, *, as_json):
        asked.append(("driven", order.address, order.spec.output))
        return 0

    monkeypatch.setattr("cluster.cli.connection.Connection.head", lambda connection: head)
    monkeypatch.setattr("cluster.submission.submit", submit)
    monkeypatch.setattr("cluster.cli.following.follow", attend)
    monkeypatch.setattr("cluster.cli.generate.follow", drive)
    where = ("--address", address) if address else ()
    said = lightmill("schedule", "run", job, *WORDS, "--slot", "2026-11-28T02:00", *where, "--json")
    output = str(job.parent / "out" / "2026-11-28")
    assert said.status == 0
    assert [slot["output"] for slot in said.json["slots"]] == [output]
    if address == "http://127.0.0.1:8265":
        assert asked == [("submitted", None, output, head), ("followed", "lightmill-x", head)]
    else:
        assert asked == [("driven", address, output)]
