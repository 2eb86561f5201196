"""Keys: relative, `/`-separated, never a way out of the prefix; and what is said when one leads nowhere."""

from actors.errors import NotFound, PreconditionFailed, Problem


def checked(key: str) -> str:
    """The key itself. One that is empty, absolute or climbs is a mistake in our own code, never bad input."""
    if not key or key.startswith("/") or ".." in key.split("/"):
        raise ValueError(f"not a key: {key!r}")
    return key


def not_found(url: str) -> NotFound:
    """Reading what is not there."""
    return NotFound(Problem("LM1320", f"there is no {url}"))


def not_as_expected(url: str, answer: str) -> PreconditionFailed:
    """A conditional write that lost."""
    return PreconditionFailed(Problem("LM1321", f"{url} is not as this write expects it ({answer})"))
