"""Whether a saved run can go on with another recipe."""

from typing import Any, NamedTuple

from pvt_train.recipe.keys import ROWS, Recipe


class Change(NamedTuple):
    """A key whose value differs between a saved run and today.

    Attributes:
        key: The key's name.
        old: The value in the saved run.
        new: The value today.
        why_not: Why a run cannot go on with the new value; empty where it can.
    """

    key: str
    old: Any
    new: Any
    why_not: str

    def __str__(self) -> str:
        reason = f" ({self.why_not})" if self.why_not else ""
        return f"{self.key} was {self.old!r}, is {self.new!r}{reason}"


def list_changes(old: Recipe, new: Recipe) -> list[Change]:
    """Returns the keys in which a saved run's recipe and today's differ, in the table's order."""
    return [
        Change(name, vars(old)[name], vars(new)[name], row.on_resume)
        for name, row in ROWS.items()
        if vars(old)[name] != vars(new)[name]
    ]
