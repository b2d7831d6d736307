"""The names that each code base gives to the same tensors, as tables.

Canonical names are whai362/PVT's. A dialect is a table of :class:`Rule`: which tensors of it hold
the rows of which canonical ones. In the patterns, ``{i}`` is a stage from 1 and ``{s}`` the same
from 0, ``{j}`` a block from 0 and ``{k}`` the same from 1, ``{p}`` is ``weight`` or ``bias`` and
``{g}`` the same as MindSpore's norms have it, ``gamma`` or ``beta``. A name is in a dialect only if
translating it there and back gives it again. Facts: the peers' own code.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from convert.names.computed import expressible
from pvt_spec import NUM_STAGES, Numerics, PVTConfig, TensorSpec, profile_numerics, tensor_specs
from pvt_spec.errors import ConvertError
from pvt_spec.words import show


@dataclass(frozen=True)
class Rule:
    """Tensors of two namings that hold the same rows, one below the other.

    Attributes:
        ours: Patterns of canonical names.
        theirs: Patterns of the dialect's, of equally many rows each.
        pointwise: Whether their weight is that of a 1x1 convolution, (out, in, 1, 1), where ours
            is a linear layer's, (out, in).
    """

    ours: tuple[str, ...]
    theirs: tuple[str, ...]
    pointwise: bool = False


@dataclass(frozen=True)
class Pairing:
    """A rule, filled in for one layer of one model: the same rows, there and here."""

    ours: tuple[TensorSpec, ...]
    theirs: tuple[TensorSpec, ...]


@dataclass(frozen=True)
class Dialect:
    """One way of naming.

    Attributes:
        name: The name that is given to ``--from-dialect`` and ``--to-dialect``.
        versions: The PVT versions that it names.
        profile: The numerics profile of the code that uses these names.
        rules: The table. The first rule that fits a name holds.
        base: The prefix that a model with a head puts before every name but the head's.
        features_only: Whether it names backbones alone, without class token, last norm and head.
        computes: A function from the maths that is asked for to what the code that uses these
            names computes, as near to it as it can; None where that is the profile alone.
        framework: The word for whose parameters they are, ``"ms"`` or ``"pt"``, in formats that
            say it.
        hub: Whether models of these names have a ``config.json`` of their own beside them.
    """

    name: str
    versions: tuple[int, ...]
    profile: str
    rules: tuple[Rule, ...]
    base: str = ""
    features_only: bool = False
    computes: Callable[[Numerics, PVTConfig], Numerics] | None = None
    framework: str = "pt"
    hub: bool = False

    @cached_property
    def _ours(self) -> list[tuple[re.Pattern[str], Rule]]:
        return [(_compile(pattern), rule) for rule in self.rules for pattern in rule.ours]

    @cached_property
    def _theirs(self) -> list[tuple[re.Pattern[str], Rule]]:
        return [(_compile(pattern), rule) for rule in self.rules for pattern in rule.theirs]

    def numerics(self, wanted: Numerics, config: PVTConfig) -> Numerics:
        """Returns what the code that uses these names computes, as near to ``wanted`` as it can."""
        if self.computes:
            return self.computes(wanted, config)
        return profile_numerics(self.profile, config.version)

    def from_canonical(self, name: str) -> tuple[str, ...]:
        """Returns the names that hold a canonical tensor's rows, without the base; () if none."""
        found = self._rule(name)
        return tuple(_fill(theirs, found[0]) for theirs in found[1].theirs) if found else ()

    def to_canonical(self, name: str) -> str | None:
        """Returns the canonical tensor that holds a dialect's rows, the first where there are more.

        None if no tensor is called so in the dialect.
        """
        bare = name.removeprefix(self.base)
        for pattern, rule in self._theirs:
            if match := pattern.fullmatch(bare):
                canonical = _fill(rule.ours[0], match)
                if bare in self.from_canonical(canonical):
                    return canonical
        return None

    @cached_property
    def _known(self) -> re.Pattern[str]:
        patterns = "|".join(_source(name) for rule in self.rules for name in rule.theirs)
        return re.compile(f"(?:{re.escape(self.base)})?(?:{patterns})")

    @cached_property
    def first(self) -> frozenset[str]:
        """The names of the weights of patch embeddings, which every PVT has, without the base."""
        stages = range(1, NUM_STAGES + 1)
        named = (self.from_canonical(f"patch_embed{stage}.proj.weight") for stage in stages)
        return frozenset(name for names in named for name in names)

    def knows(self, name: str) -> bool:
        """Returns whether a tensor of some PVT could be called so in the dialect."""
        return self._known.fullmatch(name) is not None

    def pairings(self, config: PVTConfig, *, bare: bool) -> Iterator[Pairing]:
        """Yields what holds what in a model, every tensor once, in canonical order.

        Args:
            config: The architecture.
            bare: Whether names come without the base.
        """
        specs = {spec.name: spec for spec in tensor_specs(config)}
        done: set[str] = set()
        for name in specs:
            if name in done:
                continue
            found = self._rule(name)
            if found is None:
                raise ConvertError(f"dialect {self.name} has no name for {name}")
            match, rule = found
            ours = tuple(specs[_fill(pattern, match)] for pattern in rule.ours)
            done.update(spec.name for spec in ours)
            yield Pairing(ours, tuple(self._named(rule, match, ours, bare)))

    def _rule(self, name: str) -> tuple[re.Match[str], Rule] | None:
        """Returns the first rule that fits a canonical name, and what it found in it."""
        for pattern, rule in self._ours:
            if match := pattern.fullmatch(name):
                return match, rule
        return None

    def _named(
        self, rule: Rule, match: re.Match[str], ours: tuple[TensorSpec, ...], bare: bool
    ) -> Iterator[TensorSpec]:
        first = ours[0]
        rows = sum(spec.shape[0] for spec in ours) // len(rule.theirs)
        shape = (rows, *first.shape[1:])
        if rule.pointwise and len(shape) == 2:
            shape = (*shape, 1, 1)
        for pattern in rule.theirs:
            base = "" if bare or first.layer == "head" else self.base
            yield first._replace(name=base + _fill(pattern, match), shape=shape)


_FIELDS = {
    "i": "[1-4]",
    "s": "[0-3]",
    "j": "(?:0|[1-9][0-9]{0,3})",
    "k": "[1-9][0-9]{0,3}",
    "p": "(?:weight|bias)",
    "g": "(?:gamma|beta)",
}


def _compile(pattern: str) -> re.Pattern[str]:
    fields = {field: f"(?P<{field}>{values})" for field, values in _FIELDS.items()}
    return re.compile(_source(pattern, fields))


def _source(pattern: str, fields: Mapping[str, str] = _FIELDS) -> str:
    """Returns a pattern as a regular expression."""
    literal = re.escape(pattern).replace(r"\{", "{").replace(r"\}", "}")
    return literal.format(**fields)


def _fill(pattern: str, match: re.Match[str]) -> str:
    """Returns a pattern with the stage, block and part of a name that matched another one."""
    found = match.groupdict()
    for zero, one in ("si", "jk"):
        if zero in found:
            found[one] = str(int(found[zero]) + 1)
        elif one in found:
            found[zero] = str(int(found[one]) - 1)
    is_bias = {"bias", "beta"} & {*found.values()}
    found["p"], found["g"] = ("bias", "beta") if is_bias else ("weight", "gamma")
    return pattern.format(**found)


_BLOCK = "block{i}.{j}."
_ATTENTION = ("norm1", "attn.q", "attn.kv", "attn.proj", "attn.sr", "attn.norm")
_MLP = ("norm2", "mlp.fc1", "mlp.dwconv.dwconv", "mlp.fc2")
_CANONICAL = (
    "pos_embed{i}",
    "cls_token",
    "patch_embed{i}.proj.{p}",
    "patch_embed{i}.norm.{p}",
    *(f"{_BLOCK}{layer}.{{p}}" for layer in (*_ATTENTION, *_MLP)),
    "norm{i}.{p}",
    "norm.{p}",
    "head.{p}",
)
"""Every tensor that a PVT of either version can have."""

_ABSENT = {1: ("norm{i}", _BLOCK + "mlp.dwconv"), 2: ("pos_embed", "cls_token", "norm.")}
"""Leading parts of the names that a version has not."""


def _rules(
    names: Mapping[str, str | tuple[str, ...]],
    *first: Rule,
    version: int = 0,
    ms_norms: bool = False,
    pointwise: tuple[str, ...] = (),
) -> tuple[Rule, ...]:
    """Returns rules for names that differ from canonical ones in their leading parts alone.

    Args:
        names: A dialect's leading part, or several that hold its rows one below the other, by the
            canonical one; the first that fits is taken.
        first: Rules that come before those for single canonical names.
        version: The only PVT version that the dialect names; 0 for both.
        ms_norms: Whether norms have a gamma and a beta, as MindSpore's.
        pointwise: Layers that are 1x1 convolutions.
    """
    rules = [*first]
    for ours in _CANONICAL:
        lead = next((lead for lead in names if ours.startswith(lead)), "")
        leads, rest = names.get(lead, ""), ours.removeprefix(lead)
        if ms_norms and "norm" in ours:
            rest = rest.replace("{p}", "{g}")
        theirs = tuple(new + rest for new in ((leads,) if isinstance(leads, str) else leads))
        if theirs and not ours.startswith(_ABSENT.get(version, ())):
            rules.append(Rule((ours,), theirs, ours.removesuffix(".{p}").endswith(pointwise)))
    return tuple(rules)


_OURS = _rules({}, ms_norms=True)
_MINDCV_V1 = _rules({"block{i}": "Blocks.{s}"}, ms_norms=True)
_MINDCV_V2 = _rules(
    {
        "patch_embed{i}": "patch_embed_list.{s}",
        "block{i}": "block_list.{s}",
        "norm{i}": "norm_list.{s}",
    },
    ms_norms=True,
)

_TIMM = _rules(
    {
        "patch_embed{i}": "stages.{s}.downsample",
        _BLOCK + "mlp.dwconv.dwconv": "stages.{s}.blocks.{j}.mlp.dwconv",
        _BLOCK: "stages.{s}.blocks.{j}.",
        "norm{i}": "stages.{s}.norm",
    },
    Rule(("patch_embed1.proj.{p}",), ("patch_embed.proj.{p}",)),
    Rule(("patch_embed1.norm.{p}",), ("patch_embed.norm.{p}",)),
    version=2,
)


def _hf(
    version: int, patch: str, block: str, attn: str, rest: Mapping[str, str]
) -> tuple[Rule, ...]:
    """Returns transformers' names, by the leading parts of patch embeddings, blocks, attention."""
    names: dict[str, str | tuple[str, ...]] = {
        "patch_embed{i}.norm": patch + "layer_norm",
        _BLOCK + "norm1": block + "layer_norm_1",
        _BLOCK + "attn.q": block + attn + "query",
        _BLOCK + "attn.kv": (block + attn + "key", block + attn + "value"),
        _BLOCK + "attn.norm": block + attn + "layer_norm",
        _BLOCK + "norm2": block + "layer_norm_2",
        _BLOCK + "mlp.fc1": block + "mlp.dense1",
        _BLOCK + "mlp.dwconv": block + "mlp.dwconv",
        _BLOCK + "mlp.fc2": block + "mlp.dense2",
        "head": "classifier",
        **rest,
    }
    return _rules(names, version=version)


_HF_PATCH, _HF_BLOCK = "encoder.patch_embeddings.{s}.", "encoder.block.{s}.{j}."
_HF_V1 = _hf(
    1,
    _HF_PATCH,
    _HF_BLOCK,
    "attention.self.",
    {
        "pos_embed{i}": _HF_PATCH + "position_embeddings",
        "cls_token": "encoder.patch_embeddings.3.cls_token",
        "patch_embed{i}.proj": _HF_PATCH + "projection",
        _BLOCK + "attn.proj": _HF_BLOCK + "attention.output.dense",
        _BLOCK + "attn.sr": _HF_BLOCK + "attention.self.sequence_reduction",
        "norm.": "encoder.layer_norm.",
    },
)
_HF_STAGE = "encoder.layers.{s}."
_HF_V2 = _hf(
    2,
    _HF_STAGE + "patch_embedding.",
    _HF_STAGE + "blocks.{j}.",
    "attention.",
    {
        "patch_embed{i}.proj": _HF_STAGE + "patch_embedding.proj",
        _BLOCK + "attn.proj": _HF_STAGE + "blocks.{j}.attention.proj",
        _BLOCK + "attn.sr": _HF_STAGE + "blocks.{j}.attention.spatial_reduction",
        "norm{i}": _HF_STAGE + "layer_norm",
    },
)


def _mmdet(version: int, block: str, fc2: str) -> tuple[Rule, ...]:
    """Returns mmdet's names, whose blocks are called ``block``, their last linear layer ``fc2``."""
    names: dict[str, str | tuple[str, ...]] = {
        "pos_embed{i}": "layers.{s}.1.0.pos_embed",
        "patch_embed{i}.proj": "layers.{s}.0.projection",
        "patch_embed{i}": "layers.{s}.0",
        _BLOCK + "attn.q": (),
        _BLOCK + "attn.kv": (),
        _BLOCK + "attn.proj": block + "attn.attn.out_proj",
        _BLOCK + "mlp.fc1": block + "ffn.layers.0",
        _BLOCK + "mlp.dwconv.dwconv": block + "ffn.layers.1",
        _BLOCK + "mlp.fc2": block + fc2,
        _BLOCK: block,
        "norm{i}": "layers.{s}.2",
        **dict.fromkeys(("cls_token", "norm.", "head"), ()),
    }
    q, kv = (f"{_BLOCK}attn.{layer}.{{p}}" for layer in ("q", "kv"))
    joined = Rule((q, kv), (block + "attn.attn.in_proj_{p}",))
    return _rules(names, joined, version=version, pointwise=("mlp.fc1", "mlp.fc2"))


_MS: dict[str, Any] = {"framework": "ms"}
_HF: dict[str, Any] = {"computes": expressible, "hub": True}
_MAPS: dict[str, Any] = {"features_only": True}

DIALECTS = (
    Dialect("official", (1, 2), "official", _rules({})),
    Dialect("pvt_ms", (1, 2), "official", _OURS, computes=lambda wanted, config: wanted, **_MS),
    Dialect("mindcv", (1,), "mindcv", _MINDCV_V1, **_MS),
    Dialect("mindcv", (2,), "mindcv", _MINDCV_V2, **_MS),
    Dialect("timm", (2,), "official", _TIMM, hub=True),
    Dialect("hf", (1,), "hf", _HF_V1, base="pvt.", **_HF),
    Dialect("hf", (2,), "hf", _HF_V2, base="pvt_v2.", **_HF),
    # A position embedding is the first layer of mmdet's stages, and moves the blocks by one.
    Dialect("mmdet", (1,), "hf", _mmdet(1, "layers.{s}.1.{k}.", "ffn.layers.3"), **_MAPS),
    Dialect("mmdet", (2,), "hf", _mmdet(2, "layers.{s}.1.{j}.", "ffn.layers.4"), **_MAPS),
)
"""Every dialect, by name and version."""

NAMES = tuple(dict.fromkeys(dialect.name for dialect in DIALECTS))


def find_dialect(name: str, version: int) -> Dialect:
    """Returns the table of a dialect for one PVT version.

    Raises:
        ConvertError: There is no such dialect, or it has no such models.
    """
    for dialect in DIALECTS:
        if dialect.name == name and version in dialect.versions:
            return dialect
    if name in NAMES:
        raise ConvertError(
            f"dialect {name} has no names for PVT v{version}: {name} has no such model"
        )
    raise ConvertError(f"no dialect is named {show(name)}: there are {', '.join(NAMES)}")
