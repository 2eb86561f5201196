"""`lightmill schedule`: a job that is run again at certain times, by cron, systemd or Kubernetes."""

from collections.abc import Callable
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from actors.errors import InputError, Problem
from cluster.cli.app import Options, app, emit, say, tell
from cluster.cli.kubernetes import Image, Namespace, Secret, place_of
from cluster.words import count

if TYPE_CHECKING:
    from cluster.schedule.due import Missed as Policy
    from cluster.schedule.schedule import Kind, Schedule
    from jobs.spec import JobSpec

schedule = typer.Typer(help="Run a job again at certain times.", no_args_is_help=True)
app.add_typer(schedule, name="schedule")

Job = Annotated[Path, typer.Argument(metavar="JOB", help="A job file whose output has {date} or {slot}.")]
Name = Annotated[str, typer.Option(help="Of the schedule: small letters, digits, dashes.")]
Cron = Annotated[str, typer.Option(help='Five fields, such as "0 2 * * *".')]
Timezone = Annotated[str, typer.Option(help="In which the fields are meant: Europe/Berlin.")]
Missed = Annotated[
    Literal["skip", "latest", "all"], typer.Option(help="Of times that passed while nothing ran: what is made up for.")
]
Address = Annotated[
    str | None,
    typer.Option(help="http(s)://: submit to this cluster. HOST:PORT or auto: drive it from here. Left out: here."),
]
To = Annotated[Literal["cron", "systemd", "cronjob", "rayjob", "raycronjob"], typer.Option(help="What minds the time.")]
Installed = Annotated[Literal["cron", "systemd", "cronjob", "raycronjob"], typer.Option(help="What minds the time.")]
AsJson = Annotated[bool, typer.Option("--json", help="As JSON on standard output.")]


@schedule.command("next", epilog='Example: lightmill schedule next "0 2 * * *" --timezone Europe/Berlin')
def next_times(
    cron: Annotated[str, typer.Argument(metavar="CRON", help='Five fields, such as "0 2 * * *".')],
    timezone: Timezone = "UTC",
    number: Annotated[int, typer.Option("--count", min=1, max=1000, help="How many.")] = 5,
    after: Annotated[datetime | None, typer.Option(help="By the clocks of the zone. Left out: now.")] = None,
    as_json: AsJson = False,
) -> None:
    """Say when a schedule would run next, by its own clocks and in UTC."""
    from cluster.schedule.timetable import Timetable

    timetable = Timetable(cron, timezone)
    moment = after.replace(tzinfo=timetable.zone) if after else datetime.now(UTC)
    times = list(islice(timetable.after(moment), number))
    if as_json:
        emit({"cron": cron, "timezone": timezone, "times": [time.isoformat() for time in times]})
    else:
        tell(f"{time:%a %Y-%m-%d %H:%M %Z}   {time.astimezone(UTC):%Y-%m-%d %H:%M} UTC" for time in times)


@schedule.command(epilog='Example: lightmill schedule run job.yaml --name nightly --cron "0 2 * * *"')
def run(
    job: Job,
    *,
    name: Name,
    cron: Cron,
    timezone: Timezone = "UTC",
    slot: Annotated[str, typer.Option(help="auto: what is due; or a planned time, such as 2026-11-28T02:00.")] = "auto",
    missed: Missed = "latest",
    address: Address = None,
    as_json: AsJson = False,
) -> None:
    """Make what is due. This is what cron and the others call; a slot that is done is not made twice."""
    from cluster.schedule.firing import fire
    from cluster.schedule.schedule import make_schedule

    one = make_schedule(name, job, cron, timezone, missed, address)
    outcomes = fire(one, slot, _maker(address), say)
    exit_code = next((outcome["exit_code"] for outcome in outcomes if outcome["exit_code"]), 0)
    if as_json:
        emit({"exit_code": exit_code, "name": name, "slots": outcomes})
    raise typer.Exit(exit_code)


@schedule.command(epilog='Example: lightmill schedule render job.yaml --name nightly --cron "0 2 * * *" --to systemd')
def render(  # noqa: PLR0913 - flags
    job: Job,
    *,
    name: Name,
    cron: Cron,
    to: To,
    timezone: Timezone = "UTC",
    missed: Missed = "latest",
    address: Address = None,
    image: Image = None,
    secret: Secret = None,
    namespace: Namespace = None,
) -> None:
    """Write what would be installed, and install nothing."""
    one = _checked(name, job, cron, timezone, missed, address)
    tell(_text(one, to, image, secret, namespace).splitlines())


@schedule.command(epilog='Example: lightmill schedule add job.yaml --name nightly --cron "0 2 * * *" --to cron')
def add(  # noqa: PLR0913 - flags
    job: Job,
    *,
    name: Name,
    cron: Cron,
    to: Installed,
    timezone: Timezone = "UTC",
    missed: Missed = "latest",
    address: Address = None,
    image: Image = None,
    secret: Secret = None,
    namespace: Namespace = None,
) -> None:
    """Have a job run at certain times from now on; for Kubernetes, write the manifest that does it."""
    from cluster.schedule import crontab, shelf, systemd

    one = _checked(name, job, cron, timezone, missed, address)
    if to == "cron":
        place = crontab.add(one)
    elif to == "systemd":
        place = systemd.add(one)
    else:
        place = shelf.add(one.name, _text(one, to, image, secret, namespace))
        say(f"to begin: kubectl apply -f {place}")
    tell([place])
    say(f"next: {next(one.timetable.after(datetime.now(UTC))):%a %Y-%m-%d %H:%M %Z}")


@schedule.command("list", epilog="Example: lightmill schedule list")
def list_schedules(as_json: AsJson = False) -> None:
    """List the schedules that this user has here: in the crontab, in systemd, as manifests."""
    now = datetime.now(UTC)
    found: list[dict[str, Any]] = [
        {"kept_by": place, **one.model_dump(), "next": next(one.timetable.after(now)).isoformat()}
        for place, kept in _places().items()
        for one in kept.schedules()
    ]
    if as_json:
        emit({"schedules": found})
    else:
        tell(
            f'{one["name"]}  {one["kept_by"]}  "{one["cron"]}" {one["timezone"]}  next {one["next"]}  {one["job"]}'
            for one in found
        )
    say(count(len(found), "schedule"))


@schedule.command(epilog="Example: lightmill schedule remove nightly")
def remove(name: Annotated[str, typer.Argument(metavar="NAME", help="Of a schedule.")]) -> None:
    """Take a schedule out again. What it has made stays."""
    removed = [place for place, kept in _places().items() if name in {one.name for one in kept.schedules()}]
    if not removed:
        raise InputError(
            Problem("LM1709", "there is no such schedule here", value=name, help="lightmill schedule list")
        )
    for place in removed:
        _places()[place].remove(name)
    tell(removed)
    if "manifest" in removed:
        say(f"in Kubernetes it goes on until: kubectl delete cronjob,raycronjob,configmap -l lightmill={name}")


def _places() -> dict[str, Any]:
    """Where schedules can be, each with `schedules` and `remove`."""
    from cluster.schedule import crontab, shelf, systemd

    return {"cron": crontab, "systemd": systemd, "manifest": shelf}


def _checked(name: str, job: Path, cron: str, timezone: str, missed: "Policy", address: str | None) -> "Schedule":
    """A schedule whose job is one, and whose slots have places of their own: two of them in a row would not share."""
    from cluster.address import refuse_malformed
    from cluster.jobfile import load_job
    from cluster.schedule.ledger import Ledger
    from cluster.schedule.schedule import make_schedule
    from cluster.schedule.slot import Slot

    if address and "://" in address:
        refuse_malformed(address, "--address")
    one = make_schedule(name, job, cron, timezone, missed, address)
    spec = load_job(job, {}, fill=str)
    Ledger(name, spec.output, spec.storage)
    slots = [Slot(name, planned) for planned in islice(one.timetable.after(datetime.now(UTC)), 100)]
    places = [slot.fill(spec.output) for slot in slots]
    for slot, place, following in zip(slots, places, places[1:], strict=False):
        if place == following:
            said, action = f"two slots would have one output: {slot} and the next", "{slot} instead of {date}"
            raise InputError(Problem("LM1703", said, where=str(job), value=place, help=action))
    return one


def _text(one: "Schedule", to: "Kind", image: str | None, secret: str | None, namespace: str | None) -> str:
    from cluster.schedule import crontab, manifest, systemd

    if to == "cron":
        return crontab.render(one)
    if to == "systemd":
        return systemd.render(one)
    return manifest.render(one, to, place_of(image, secret, namespace))


def _maker(address: str | None) -> "Callable[[JobSpec], int]":
    """What makes a job: a driver here, or one on the cluster that the job is submitted to, followed to its end."""
    from cluster.checkout import commit
    from cluster.cli import following, generate
    from jobs.order import RunOrder

    def here(spec: "JobSpec") -> int:
        order = RunOrder(spec=spec, address=address, debug=Options.debug, commit=commit())
        return generate.follow(order, as_json=False)

    def there(spec: "JobSpec") -> int:
        from actors.storage.opening import open_bucket
        from cluster import submission
        from cluster.cli.connection import Connection, Found

        head = Connection(address).head()
        try:
            job = submission.submit(RunOrder(spec=spec, debug=Options.debug, commit=commit()), head, say).id
            say(f"submitted as {job}")
        except submission.AlreadySubmitted as error:  # by a call of which nobody is left to follow it
            job = error.id
            say(f"submitted already, as {job}")
        return following.follow(Found(open_bucket(spec.output, spec.storage), job, head), as_json=False)

    return there if address and "://" in address else here
