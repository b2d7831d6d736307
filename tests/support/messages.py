"""What a message says: its facts, in whatever words."""

import re

Facts = tuple[object, ...]


def naming(*facts: object) -> str:
    """A pattern of the texts in which each fact stands by itself: a name, number, file, option."""
    assert facts
    alone = (rf"(?=.*(?<!\w)(?<!\d\.){re.escape(str(fact))}(?!\w|\.\d))" for fact in facts)
    return f"(?s)\\A{''.join(alone)}"


def tells(text: object, *facts: object) -> bool:
    """Whether each fact stands by itself in a text."""
    return re.search(naming(*facts), str(text)) is not None
