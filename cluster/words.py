"""Words: numbers, sizes and durations as a person reads them, and other people's text made harmless."""

from collections.abc import Mapping


def printable(text: str) -> str:
    """With escapes for whatever would steer a terminal or begin a line: prompts and paths are other people's text."""
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)


def count(number: int, noun: str) -> str:
    """`1 row`, `2,000 rows`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def size(count: float) -> str:
    """Bytes: `12 B`, `3.4 MB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:,.0f} {unit}" if unit == "B" else f"{count:,.1f} {unit}"
        count /= 1000
    return f"{count:,.1f} TB"


def duration(seconds: float) -> str:
    """`4.2 s`, `1 min 05 s`, `3 h 07 min`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{seconds:.1f} s"


def rate(images_per_second: float) -> str:
    """`12.3 images/s`; slow ones with the digits that tell them apart."""
    return f"{images_per_second:,.{1 if images_per_second >= 1 else 2}f} images/s"


def shares(seconds: Mapping[str, float]) -> str:
    """Where time went, the most first: `denoise 71% (68.7 s), load 28% (27.1 s)`. Less than half a per cent, or what
    would read 0.0 s, is not worth a word."""
    total = sum(seconds.values()) or 1.0
    spent = sorted(seconds.items(), key=lambda item: -item[1])
    return ", ".join(
        f"{cause.replace('_', ' ')} {value / total:.0%} ({duration(value)})"
        for cause, value in spent
        if value / total >= 0.005 and value >= 0.05
    )
