"""Where published weights are kept and looked for: what the environment says."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from pvt_spec.errors import ConvertError
from pvt_spec.words import show

CACHE, REGISTRY, MIRROR = "PVT_HUB_CACHE", "PVT_HUB_REGISTRY", "PVT_HUB_MIRROR"
OFFLINE = ("PVT_HUB_OFFLINE", "HF_HUB_OFFLINE")
"""The variables of the environment."""

_TRUE = ("1", "on", "yes", "true")


@dataclass(frozen=True)
class Places:
    """Where published weights are kept and looked for.

    Attributes:
        cache: The folder of what was downloaded, but for repositories of Hugging Face, which are
            in its own.
        registry: The file of the user's registry.
        mirror: The address that stands before every host and path, as in
            ``https://mirror.example/download.mindspore.cn/…``; "" for none.
        offline: Whether nothing is downloaded.
    """

    cache: Path
    registry: Path
    mirror: str = ""
    offline: bool = False

    def folder(self, name: str) -> Path:
        """Returns the folder in which what a row's name stands for is kept, or noted."""
        return self.cache.joinpath(*name.split("/"))

    def mirrored(self, address: str) -> str:
        """Returns where an address is looked for."""
        return f"{self.mirror}/{address.partition('://')[2]}" if self.mirror else address


def find_places(environment: Mapping[str, str] = os.environ) -> Places:
    """Returns what the environment says, and what is usual where it says nothing.

    Raises:
        ConvertError: It says what cannot be.
    """

    def folder(variable: str, *usual: str) -> Path:
        said = environment.get(variable)
        if said and Path(said).is_absolute():
            return Path(said)
        try:
            return Path.home().joinpath(*usual)
        except RuntimeError:
            raise ConvertError(
                f"it is not known where your home is: set HOME, or {CACHE} and {REGISTRY}"
            ) from None

    cache, registry = environment.get(CACHE), environment.get(REGISTRY)
    known = registry or folder("XDG_DATA_HOME", ".local", "share") / "pvt-twins" / "hub.json"
    return Places(
        cache=Path(cache or folder("XDG_CACHE_HOME", ".cache") / "pvt-twins" / "hub").absolute(),
        registry=Path(known).absolute(),
        mirror=_checked(environment.get(MIRROR, "")),
        offline=any(environment.get(name, "").lower() in _TRUE for name in OFFLINE),
    )


def _checked(mirror: str) -> str:
    try:
        parts = urlsplit(mirror)
        known = not mirror or (parts.scheme in ("http", "https") and parts.hostname)
    except ValueError:
        known = False
    if not known or "?" in mirror or "#" in mirror:
        raise ConvertError(f"{MIRROR} is {show(mirror)}, expected an address: https://HOST/PATH")
    if "@" in parts.netloc:  # addresses are printed, noted, and written into what is converted
        raise ConvertError(
            f"{MIRROR} has a login for {show(parts.hostname)}, which would be told to all who see "
            "where a file is from: put it into ~/.netrc"
        )
    return mirror.rstrip("/")
