"""Reproduce: images of an output made again and compared with those that are stored; from the order to the status."""

import gc
import math
import threading
import traceback
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from itertools import groupby
from pathlib import Path
from typing import Any

from actors.errors import InputError, Problem, RunError, Stopped, StorageError, UsageError, as_ours
from actors.likeness import LEAST_PSNR, MOST_LEVELS
from actors.recipe import LaneRecipe
from actors.remake import Remaker
from actors.storage.bucket import Bucket
from actors.storage.lone_file import write_file
from actors.storage.opening import open_bucket
from jobs.finding import Difference, Finding, compare, other_weights
from jobs.lanes import lane_recipes
from jobs.leash import Leash
from jobs.lookup import Lookup, unknown
from jobs.manifest import Manifest
from jobs.order import ReproduceOrder
from jobs.promise import Say, library_versions
from jobs.retry import IN_VAIN, is_lasting

Row = Mapping[str, Any]
UNRECORDED = ("torch", "transformers")
"""Libraries that no row names. The manifest does: where the job was begun."""


def reproduce(order: ReproduceOrder, leash: Leash) -> int:
    """Do what the order says, tell the leash of each image, and return the exit status."""
    tally = Tally()
    try:
        _reproduce(order, leash, tally)
        message, exit_code = "compared", RunError.exit_code if tally.verdicts["different"] else 0
    except Stopped:
        message, exit_code = "stopped", leash.exit_code
    except Exception as error:  # noqa: BLE001  whatever it is, whoever started this gets a last word
        if order.debug:
            traceback.print_exc()
        failure = as_ours(error)
        if leash.stopping.is_set() and isinstance(failure, StorageError):  # a store that is away is waited for no more
            message, exit_code = "stopped", leash.exit_code
        else:
            leash.fail(failure)
            message = "not all was compared" if tally.images else "nothing was compared"
            exit_code = failure.exit_code
    words = tally.words() if tally.images or message == "compared" else {}
    leash.end(exit_code, {"message": message, **words})
    return exit_code


class Reproducer:
    """Makes images of one output again. One model at a time is in memory."""

    def __init__(self, bucket: Bucket, manifest: Manifest, lookup: Lookup, say: Say) -> None:
        self._bucket = bucket
        self._manifest = manifest
        self._lookup = lookup
        self._say = say
        self._recipe: LaneRecipe | None = None
        self._remaker: Remaker | None = None
        now = library_versions()
        then = manifest.versions
        pairs = ((name, then.get(name), now.get(name)) for name in UNRECORDED)
        self._libraries = tuple(Difference(*pair) for pair in pairs if pair[1] != pair[2])

    def reproduce(self, rows: Sequence[Row], stopping: threading.Event) -> Iterator[tuple[Finding, bytes]]:
        """What each of these images, all of which are there, is now, and its bytes. Raises `Stopped`."""
        for _, group in groupby(sorted(rows, key=_setting), key=_setting):
            same = list(group)
            for row, new, data in self._load(same[0]).remake(same, stopping, self._parents(same)):
                finding = compare(self._bucket, row, new, data)
                if stopping.is_set():  # the stored image may be missing for that alone
                    raise Stopped(Problem("LM1610", "stopped on request", help="run the same command again"))
                libraries = self._libraries if row["diffusers_version"] else ()
                yield replace(finding, environment=(*finding.environment, *libraries)), data

    def _parents(self, rows: Sequence[Row]) -> Mapping[str, Row]:
        """What the images were made of, as it is now."""
        keys = {key for row in rows for key in row["parents"] or ()}
        return {row["key"]: row for row in self._lookup.find(keys)} if keys else {}

    def _load(self, row: Row) -> Remaker:
        recipe = self._recipe_of(row)
        if self._remaker is None or recipe != self._recipe:
            self._remaker = None
            gc.collect()  # its weights are to be gone before others come, and cycles hold them
            self._recipe, self._remaker = recipe, Remaker(recipe, self._bucket)
            then, now = row["weights_sha256"], self._remaker.info.weights_sha256
            if then != now:
                self._say(str(other_weights(recipe.model.model, then, now)))
        return self._remaker

    def _recipe_of(self, row: Row) -> LaneRecipe:
        recipe = lane_recipes(self._manifest, self._manifest.spec, gpus=0)[row["lane"]]
        recorded = {name: row[name] for name in ("threads", "dtype") if row[name] is not None}
        return replace(recipe, model=recipe.model.model_copy(update={**recorded, "gpus_per_worker": None}))


class Tally:
    """What many images came to, without keeping them, however it ends."""

    def __init__(self) -> None:
        self.without_image = 0
        """Rows that have none to compare with."""
        self.verdicts: Counter[str] = Counter(identical=0, rounding=0, different=0)
        self._environment: Counter[Difference] = Counter()
        self._worst: Finding | None = None

    @property
    def images(self) -> int:
        """How many were compared."""
        return self.verdicts.total()

    def add(self, finding: Finding) -> None:
        """Count the image."""
        self.verdicts[finding.verdict] += 1
        self._environment.update(finding.environment)
        if finding.verdict != "identical" and (self._worst is None or _distance(finding) > _distance(self._worst)):
            self._worst = finding

    def words(self) -> dict[str, Any]:
        """For the end."""
        environment = [{**asdict(what), "images": images} for what, images in self._environment.most_common()]
        worst = self._worst.to_dict() if self._worst else None
        return {
            "without_image": self.without_image,
            "bounds": {"max_difference": MOST_LEVELS, "psnr": LEAST_PSNR},
            "verdicts": dict(self.verdicts),
            "worst": worst,
            "environment": environment,
        }


def _reproduce(order: ReproduceOrder, leash: Leash, tally: Tally) -> None:
    bucket = open_bucket(order.output, order.storage, wanted=lambda: not leash.stopping.is_set())
    manifest = Manifest.load(bucket)
    assert manifest is not None, "whoever gives the order has seen it"
    lookup = Lookup(bucket, manifest, wanted=lambda: not leash.stopping.is_set())
    groups = _named(lookup, order, leash) if order.id is not None else _many(lookup, order.sample)
    reproducer = Reproducer(bucket, manifest, lookup, leash.say)
    for rows in groups:
        there = [row for row in rows if row["status"] == "ok"]
        tally.without_image += len(rows) - len(there)
        for finding, data in reproducer.reproduce(there, leash.stopping) if there else ():
            tally.add(finding)
            if order.id is not None or finding.verdict == "different":
                leash.image(finding.to_dict())
            if order.save and data:
                write_file(Path(order.save), data)
    if different := tally.verdicts["different"]:
        leash.fail(RunError(_different(order.output, different, tally.images)))


def _named(lookup: Lookup, order: ReproduceOrder, leash: Leash) -> list[list[Row]]:
    """The rows that the order names. Raises `InputError` where there are none, or none with an image."""
    assert order.id is not None
    rows: list[Row] = list(lookup.find([order.id]))
    if not rows:
        raise unknown(order.output, order.id, lookup.close_to(order.id))
    if order.image_index is not None:
        rows = _of_index(rows, order.image_index, order)
    imageless = [_no_image(row) for row in rows if row["status"] != "ok"]
    if len(imageless) == len(rows):
        raise InputError(*imageless)
    for problem in imageless:
        leash.say(str(replace(problem, severity="warning")))
    if order.save and len(rows) - len(imageless) > 1:
        help_ = f"name one with --image-index, or by its key, such as {rows[0]['key']}"
        raise UsageError(Problem("LM1826", f"--save takes one image, and these are {len(rows)}", help=help_))
    return [rows]


def _of_index(rows: Sequence[Row], index: int, order: ReproduceOrder) -> list[Row]:
    found = [row for row in rows if row["image_index"] == index]
    if not found:
        there = sorted({row["image_index"] for row in rows})
        message = f'"{order.id}" has no image {index}'
        help_ = f"use one of {', '.join(map(str, there))}"
        raise InputError(Problem("LM1821", message, where=order.output, value=str(index), help=help_))
    return found


def _many(lookup: Lookup, sample: int | None) -> Iterable[list[Row]]:
    found = lookup.all() if sample is None else lookup.sample(sample)
    return (list(rows) for rows in found)


def _no_image(row: Row) -> Problem:
    return Problem(
        "LM1822",
        f"{row['key']} has no image to compare with: it is {row['status']}, {row['error_code']}: {row['error']}",
        value=str(row["id"]),
        help=_help(row),
    )


def _help(row: Row) -> str:
    if row["status"] == "filtered":
        return "nothing to do: the job leaves such images out"
    return IN_VAIN if is_lasting(row["error_code"] or "") else "`lightmill retry OUT` makes failed images again"


def _different(output: str, different: int, all_: int) -> Problem:
    return Problem(
        "LM1823",
        f"{different:,} of {all_:,} images came out different from what is stored",
        where=output,
        help="see what differs in the environment; `lightmill verify` says whether the stored images are as written",
    )


def _setting(row: Row) -> tuple[int, int, str]:
    """What of a row asks for a model of its own in memory."""
    return row["lane"], row["threads"] or 0, row["dtype"] or ""


def _distance(finding: Finding) -> tuple[bool, float, int]:
    """How bad it is: no picture at all, then the lowest PSNR, then the largest difference."""
    near = finding.likeness
    if near is None:
        return True, math.inf, 255
    return finding.verdict == "different", -near.psnr, near.max_difference
