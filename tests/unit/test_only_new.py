"""Jobs that are `only_new`: night after night, with rows that fail, runs that die, and hashes in many parts."""

import json
from datetime import UTC, datetime, timedelta
from itertools import chain

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from actors.errors import InputError
from actors.storage.opening import open_bucket
from actors.tables import rewrite
from builders import MODEL, drive, read_rows
from cluster.schedule import hashes, news
from cluster.schedule.firing import fire
from cluster.schedule.schedule import Schedule
from commands import lightmill

NOW = datetime(2026, 11, 28, 2, 5, tzinfo=UTC)


class Nights:
    """A schedule, night after night."""

    def __init__(self, folder, **changes):
        folder.mkdir(parents=True, exist_ok=True)
        self._table = folder / "prompts.parquet"
        self.file = folder / "job.yaml"
        values = {
            "prompts": str(self._table),
            "output": str(folder / "out" / "{date}"),
            "only_new": True,
            "shard_size": 4,
            "models": [{**MODEL, "model": "fake:fail=boom", "workers": {"max": 1}}],
            "limits": {"max_failed_share": 1.0},
            **changes,
        }
        self.file.write_text(json.dumps(values))
        self._schedule = Schedule(name="nightly", job=str(self.file), cron="0 2 * * *")
        self._night = 0
        self.specs, self.said = [], []
        self.ledger = open_bucket(str(folder / "out" / "schedules" / "nightly"))

    def table(self, rows):
        pq.write_table(pa.Table.from_pylist(rows), self._table)

    def run(self, make=None, again=False):
        """The next night, or the last one once more; what it came to."""
        self._night += not again
        outcomes = fire(self._schedule, "auto", make or self.make, self.said.append, NOW + timedelta(days=self._night))
        return outcomes[0] if outcomes else None

    def make(self, spec):
        self.specs.append(spec)
        return drive(spec).ends[-1][0]

    def made(self):
        """Prompts of the last night, by id."""
        return {row["id"]: row["prompt"] for row in read_rows(self.specs[-1]).values()}


def rows(**prompts):
    return [{"id": name, "prompt": prompt} for name, prompt in prompts.items()]


def report(outcome):
    return tuple(outcome[name] for name in ("new", "changed", "known", "failed"))


def test_each_night_makes_what_is_new_or_changed_and_what_failed(tmp_path):
    nights = Nights(tmp_path)
    nights.table(rows(a="a cat", b="boom", c="a dog"))
    assert report(nights.run()) == (3, 0, 0, 1)
    nights.table(rows(a="a cat", b="boom", c="a blue dog", d="an owl"))
    assert report(nights.run()) == (2, 1, 1, 1)
    assert nights.made() == {"b": "boom", "c": "a blue dog", "d": "an owl"}
    nights.table(rows(a="a cat", b="a bee", c="a blue dog", d="an owl"))
    assert report(nights.run()) == (1, 0, 3, 0)
    assert nights.made() == {"b": "a bee"}
    assert report(nights.run()) == (0, 0, 4, 0)
    assert len(nights.specs) == 3
    assert nights.said[-1] == "0 new rows, 0 changed, 4 made before; 0 failed, which the next slot takes again"


def test_on_s3_it_is_the_same(tmp_path, moto_store):
    nights = Nights(tmp_path, output=f"{moto_store.url}/{{date}}")
    nights.table(rows(a="a cat", b="boom"))
    assert report(nights.run()) == (2, 0, 0, 1)
    nights.table(rows(a="a cat", b="boom", c="a dog"))
    assert report(nights.run()) == (2, 0, 1, 1)
    assert nights.made() == {"b": "boom", "c": "a dog"}
    noted = {info.key.partition("/")[0] for info in open_bucket(f"{moto_store.url}/schedules/nightly").list()}
    assert noted == {"known", "leases", "pending", "schedule.json", "slots"}


def test_without_ids_a_row_is_known_by_what_it_says(tmp_path):
    nights = Nights(tmp_path, overrides=["seed"])
    nights.table([{"prompt": "a cat", "seed": 1}, {"prompt": "a dog", "seed": 1}])
    assert report(nights.run()) == (2, 0, 0, 0)
    nights.table([{"prompt": "a dog", "seed": 1}, {"prompt": "a cat", "seed": 2}])
    assert report(nights.run()) == (1, 0, 1, 0)


def test_columns_that_steer_nothing_change_nothing(tmp_path):
    nights = Nights(tmp_path)
    nights.table([{"id": "a", "prompt": "a cat", "score": 1}])
    nights.run()
    nights.table([{"id": "a", "prompt": "a cat", "score": 2}])
    assert report(nights.run()) == (0, 0, 1, 0)


def test_a_slot_that_is_resumed_has_the_table_it_began_with(tmp_path):
    nights = Nights(tmp_path)
    nights.table(rows(a="a cat", b="a dog"))
    assert nights.run(make=lambda spec: 5)["exit_code"] == 5
    nights.table(rows(a="a cat", b="a dog", c="an owl"))
    assert report(nights.run(again=True)) == (2, 0, 0, 0)
    assert nights.made() == {"a": "a cat", "b": "a dog"}
    assert report(nights.run()) == (1, 0, 2, 0)


@pytest.mark.parametrize("dies_at", ["_keep", "put_records", "_copy"])
def test_a_slot_that_dies_while_it_is_prepared_begins_it_anew(tmp_path, monkeypatch, dies_at):
    nights = Nights(tmp_path)
    nights.table(rows(a="a cat", b="a dog"))

    def die(*words, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(news, dies_at, die)
        with pytest.raises(KeyboardInterrupt):
            nights.run()
    nights.table(rows(c="an owl"))
    assert report(nights.run(again=True)) == (1, 0, 0, 0)
    assert nights.made() == {"c": "an owl"}


def test_a_table_that_is_written_to_while_it_is_copied_is_refused(tmp_path, monkeypatch):
    nights = Nights(tmp_path)
    nights.table(rows(a="a cat", b="a dog"))

    def pack(tables, schema):
        first = next(tables)
        nights.table(rows(c="an owl", a="a cat", b="a dog"))
        return rewrite.pack(chain([first], tables), schema)

    with monkeypatch.context() as patch:
        patch.setattr(news, "pack", pack)
        with pytest.raises(InputError, match="LM1022"):
            nights.run()
    assert report(nights.run(again=True)) == (3, 0, 0, 0)
    assert nights.made() == {"c": "an owl", "a": "a cat", "b": "a dog"}


def test_a_slot_that_dies_before_it_is_noted_is_settled_once(tmp_path, monkeypatch):
    nights = Nights(tmp_path)
    nights.table(rows(a="a cat", b="boom"))

    def die(*words, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("cluster.schedule.ledger.Ledger.note", die)
        with pytest.raises(KeyboardInterrupt):
            nights.run()
    assert nights.run(again=True)["exit_code"] == 0
    assert report(nights.run()) == (1, 0, 1, 1)


def test_input_images_are_refused(tmp_path):
    nights = Nights(tmp_path, overrides=["image"])
    nights.table([{"id": "a", "prompt": "a cat", "image": "a.png"}])
    with pytest.raises(Exception, match="LM1710"):
        nights.run()


def test_only_a_schedule_knows_what_is_new(tmp_path):
    nights = Nights(tmp_path, output=str(tmp_path / "out"))
    nights.table(rows(a="a cat"))
    assert lightmill("run", nights.file).codes == ["LM1704"]


def test_many_parts_make_what_one_makes(tmp_path, monkeypatch):
    monkeypatch.setattr(hashes, "PART_ROWS", 7)
    nights = Nights(tmp_path)
    nights.table([{"id": str(n), "prompt": "boom" if n % 10 == 3 else f"colour {n}"} for n in range(60)])
    assert report(nights.run()) == (60, 0, 0, 6)
    assert len(list(nights.ledger.list("known/"))) > 4
    nights.table([{"id": str(n), "prompt": f"colour {n}" if n % 7 else "grey"} for n in range(90)])
    expected = {str(n) for n in range(90) if n >= 60 or n % 7 == 0 or n % 10 == 3}
    outcome = nights.run()
    assert set(nights.made()) == expected
    assert outcome["new"] + outcome["changed"] == len(expected)
