"""How numbers of things, long lists and long values are said, in every message."""

from collections.abc import Callable, Sequence
from typing import Any


def counted(number: int, noun: str) -> str:
    """Returns ``1 image``, ``2,000 epochs``, ``3 classes``, ``4 batches``."""
    ending = "es" if noun.endswith(("s", "tch")) else "s"
    return f"{number:,} {noun}{'' if number == 1 else ending}"


def listed(items: Sequence[Any], most: int, show: Callable[[Any], str] = str) -> str:
    """Returns ``a, b and 3 more``: the first of some items, and how many there are beside.

    Args:
        items: The items; of none it is "".
        most: How many are shown.
        show: The function that returns the words for one; it is asked for those alone.
    """
    more = f" and {len(items) - most} more" if len(items) > most else ""
    return ", ".join(map(show, items[:most])) + more


def shortened(text: str, most: int = 60) -> str:
    """Returns a text of so many characters at most, its end left out where it is longer."""
    return text if len(text) <= most else f"{text[: most - 3]}…"
