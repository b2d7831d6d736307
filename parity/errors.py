"""What parity refuses."""

from pvt_spec import PvtError


class ParityError(PvtError):
    """Models, runtimes or bundles that cannot be compared."""
