"""The errors of ``convert``: one message to the user, exit code 1. Standard library only."""

from pvt_spec.errors import PvtError


class ConvertError(PvtError):
    """A weight file that cannot be read or written as asked: what is wrong, where, what to do."""
