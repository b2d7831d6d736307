"""The names that each code base gives to the same tensors, as tables.

Canonical names are whai362/PVT's. A dialect is a table of leading parts, and whether norms are
called MindSpore's way; a name is in a dialect only if translating it there and back gives it
again. Facts: the peers' own code. May import pvt_spec.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from convert.errors import ConvertError
from pvt_spec import NUM_STAGES

_MS_NORM = {"weight": "gamma", "bias": "beta"}
_CANONICAL_NORM = {ms: canonical for canonical, ms in _MS_NORM.items()}


@dataclass(frozen=True)
class Dialect:
    """One way of naming.

    Attributes:
        name: As it is given to ``--dialect``.
        versions: The PVT versions that it names.
        profile: The numerics profile of the code that uses these names.
        leading: Canonical leading part -> the dialect's; what is not listed stays.
        ms_norms: Whether norms hold ``gamma`` and ``beta`` for ``weight`` and ``bias``.
    """

    name: str
    versions: tuple[int, ...]
    profile: str
    leading: Mapping[str, str] = field(default_factory=dict)
    ms_norms: bool = False

    def from_canonical(self, name: str) -> str:
        """The dialect's name of a canonical tensor."""
        if self.ms_norms:
            name = _replace_norm(name, _MS_NORM)
        return _replace_leading(name, self.leading)

    def to_canonical(self, name: str) -> str | None:
        """The canonical name of a dialect's tensor; None if no tensor is called so in it."""
        back = {theirs: ours for ours, theirs in self.leading.items()}
        canonical = _replace_leading(name, back)
        if self.ms_norms:
            canonical = _replace_norm(canonical, _CANONICAL_NORM)
        return canonical if self.from_canonical(canonical) == name else None


def _replace_leading(name: str, table: Mapping[str, str]) -> str:
    for old, new in table.items():
        if name.startswith(old):
            return new + name[len(old) :]
    return name


def _replace_norm(name: str, parts: Mapping[str, str]) -> str:
    layer, _, part = name.rpartition(".")
    is_norm = layer.rpartition(".")[2].startswith("norm")
    return f"{layer}.{parts[part]}" if is_norm and part in parts else name


def _numbered(**lists: str) -> dict[str, str]:
    """Canonical ``block1.`` … ``block4.`` -> ``Blocks.0.`` … ``Blocks.3.``, and so on."""
    return {
        f"{canonical}{stage + 1}.": f"{theirs}.{stage}."
        for canonical, theirs in lists.items()
        for stage in range(NUM_STAGES)
    }


DIALECTS = (
    Dialect("official", (1, 2), "official"),
    Dialect("pvt_ms", (1, 2), "official", ms_norms=True),
    Dialect("mindcv", (1,), "mindcv", _numbered(block="Blocks"), ms_norms=True),
    Dialect(
        "mindcv",
        (2,),
        "mindcv",
        _numbered(patch_embed="patch_embed_list", block="block_list", norm="norm_list"),
        ms_norms=True,
    ),
)
"""Every dialect, by name and version."""

NAMES = tuple(dict.fromkeys(dialect.name for dialect in DIALECTS))


def find_dialect(name: str, version: int) -> Dialect:
    """The table of a dialect for one PVT version.

    Raises:
        ConvertError: There is no such dialect.
    """
    for dialect in DIALECTS:
        if dialect.name == name and version in dialect.versions:
            return dialect
    raise ConvertError(f"no dialect is named {name!r}: there are {', '.join(NAMES)}")
