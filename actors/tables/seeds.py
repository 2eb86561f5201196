"""Seeds: where an image's noise comes from, the same wherever and whenever the image is made."""

from hashlib import blake2b

SEED_SPACE = 2**53
"""Seeds below it are exact in JSON and in every float64."""


def derive_seed(job_seed: int, id: str, image_index: int, attempt: int = 0) -> int:  # noqa: A002 - the column's name
    """The seed of an image of a row that brings none: 53 bits of BLAKE2b. Attempt 1 is the one after a blank image.

    What is hashed is `job_seed:image_index:attempt:id` in UTF-8: numbers hold no colon and the id comes last, so that
    no two images have the same text.
    """
    text = f"{job_seed}:{image_index}:{attempt}:{id}"
    digest = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 11


def follow_seed(row_seed: int, image_index: int) -> int:
    """The seed of an image of a row that brings its own: counted up from it."""
    return (row_seed + image_index) % SEED_SPACE
