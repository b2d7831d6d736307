"""What is known of the hash of published weights, and whether it is theirs."""

from convert.hub.places import Places
from convert.hub.registry import Row
from pvt_spec.errors import ConvertError


def check_hash(row: Row, sha256: str, where: str, places: Places) -> None:
    """Refuses a file whose hash is not the one that is known of a row.

    Raises:
        ConvertError: It is not.
    """
    expected = row.sha256 or row.digits
    if not expected or (sha256.startswith(row.digits or "") and row.sha256 in (None, sha256)):
        return
    what = f"sha256 {row.sha256}" if row.sha256 else f"a sha256 that begins with {row.digits}"
    source = f"{places.registry} says" if "sha256" in row.recorded else "is published"
    raise ConvertError(
        f"{where}: has sha256 {sha256}, expected {what}, as {source}: it is another file, or was "
        "damaged on its way; nothing of it is taken"
    )


def against(row: Row, places: Places) -> str:
    """Returns the words for what a row's file was verified by; "" where nothing is known of it."""
    if row.sha256:
        own = "sha256" in row.recorded
        return f"as in {places.registry}" if own else "as published"
    return f"begins with {row.digits}, as its name says" if row.digits else ""
