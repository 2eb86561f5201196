"""Lineage: whether the images of a later stage were made of the very images that are there."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from actors import metadata
from actors.errors import NotFound, Problem, RunError
from actors.parents import parent_key, read_parents
from actors.records import Shard
from actors.storage.bucket import Bucket
from jobs.plan import Plan

Row = Mapping[str, Any]


def parent_faults(bucket: Bucket, plan: Plan, shard: Shard, rows: Sequence[Row]) -> Iterator[Problem]:
    """What is wrong with the parents that these rows name. Reads the metadata of one shard more, and no image."""
    before = plan.parents(shard.index)
    made = [row for row in rows if row["status"] == "ok"]
    if before is None or not made:
        return
    key = metadata.key(shard)
    try:
        parents = read_parents(bucket, plan.shard(before))
    except (NotFound, RunError) as error:
        yield _fault(f"the metadata of the parents cannot be read: {error.problems[0].message}", key)
        return
    wrong = [(row["key"], why) for row in made if (why := _why_wrong(row, parents))]
    if wrong:
        yield _fault(f"{len(wrong)} images were not made of the images before them: {wrong[0][1]}", key, wrong[0][0])


def _why_wrong(row: Row, parents: Mapping[str, Row]) -> str | None:
    parent = parent_key(row["key"])
    if row["parents"] != [parent]:
        return f"parents are {row['parents']}, should be {parent}"
    made_of = json.loads(row["recipe"] or "{}").get("inputs", {}).get("image", {}).get("sha256")
    found = parents.get(parent, {}).get("sha256")
    return None if found == made_of else f"{parent} has the SHA-256 {found}, and had {made_of}"


def _fault(message: str, where: str, value: str = "") -> Problem:
    action = "delete this file, and run the job again: what it is about is made of the images that are there"
    return Problem("LM1808", message, where=where, value=value, help=action)
