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

from convert.formats.huggingface.config import expressible
from pvt_spec import Numerics, PVTConfig, TensorSpec, profile_numerics, tensor_specs
from pvt_spec.errors import ConvertError


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
class Group:
    """A rule, filled in for one layer of one model: the same rows, there and here."""

    ours: tuple[TensorSpec, ...]
    theirs: tuple[TensorSpec, ...]


@dataclass(frozen=True)
class Dialect:
    """One way of naming.

    Attributes:
        name: As it is given to ``--from-dialect`` and ``--to-dialect``.
        versions: The PVT versions that it names.
        profile: The numerics profile of the code that uses these names.
        rules: The table. The first rule that fits a name holds.
        base: What a model with a head puts before every name but the head's.
        features_only: Whether it names backbones alone, without class token, last norm and head.
        computes: What the code that uses these names computes where some maths is asked for, as
            near to it as it can; None for the profile alone.
        framework: What a format that says whose parameters it holds says of it: ``"ms"`` or
            ``"pt"``.
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
        """What the code that uses these names computes, as near to ``wanted`` as it can."""
        if self.computes:
            return self.computes(wanted, config)
        return profile_numerics(self.profile, config.version)

    def from_canonical(self, name: str) -> tuple[str, ...]:
        """The dialect's tensors that hold a canonical one's rows, without the base; () if none."""
        found = self._rule(name)
        return tuple(_fill(theirs, found[0]) for theirs in found[1].theirs) if found else ()

    def to_canonical(self, name: str) -> str | None:
        """The canonical tensor that holds a dialect's rows, the first where there are more.

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

    def knows(self, name: str) -> bool:
        """Whether a tensor of some PVT could be called so in the dialect."""
        return self._known.fullmatch(name) is not None

    def groups(self, config: PVTConfig, *, bare: bool) -> Iterator[Group]:
        """What holds what in a model, every tensor once, in canonical order.

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
            yield Group(ours, tuple(self._named(rule, match, ours, bare)))

    def _rule(self, name: str) -> tuple[re.Match[str], Rule] | None:
        """The first rule that fits a canonical name, and what it found in it."""
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
_GAINS = {"weight": "gamma", "bias": "beta"}
_PARTS = {theirs: ours for ours, theirs in _GAINS.items()}


def _compile(pattern: str) -> re.Pattern[str]:
    fields = {field: f"(?P<{field}>{values})" for field, values in _FIELDS.items()}
    return re.compile(_source(pattern, fields))


def _source(pattern: str, fields: Mapping[str, str] = _FIELDS) -> str:
    """A pattern as a regular expression."""
    literal = re.escape(pattern).replace(r"\{", "{").replace(r"\}", "}")
    return literal.format(**fields)


def _fill(pattern: str, match: re.Match[str]) -> str:
    """A pattern with the stage, block and part of a name that matched another one."""
    found = match.groupdict()
    if "i" in found:
        found["s"] = str(int(found["i"]) - 1)
    elif "s" in found:
        found["i"] = str(int(found["s"]) + 1)
    if "j" in found:
        found["k"] = str(int(found["j"]) + 1)
    elif "k" in found:
        found["j"] = str(int(found["k"]) - 1)
    if "p" in found:
        found["g"] = _GAINS[found["p"]]
    elif "g" in found:
        found["p"] = _PARTS[found["g"]]
    return pattern.format(**found)


Name = str | tuple[str, ...]


def _rules(rows: Mapping[Name, Name], pointwise: tuple[str, ...] = ()) -> tuple[Rule, ...]:
    """A table of canonical to the dialect's patterns; of layers in ``pointwise``, as 1x1 conv."""

    def patterns(name: Name) -> tuple[str, ...]:
        return (name,) if isinstance(name, str) else name

    return tuple(
        Rule(patterns(ours), patterns(theirs), any(layer in theirs for layer in pointwise))
        for ours, theirs in rows.items()
    )


_BLOCK = "block{i}.{j}."
_CANONICAL = (
    "pos_embed{i}",
    "cls_token",
    "patch_embed{i}.proj.{p}",
    "patch_embed{i}.norm.{p}",
    _BLOCK + "norm1.{p}",
    _BLOCK + "attn.q.{p}",
    _BLOCK + "attn.kv.{p}",
    _BLOCK + "attn.proj.{p}",
    _BLOCK + "attn.sr.{p}",
    _BLOCK + "attn.norm.{p}",
    _BLOCK + "norm2.{p}",
    _BLOCK + "mlp.fc1.{p}",
    _BLOCK + "mlp.dwconv.dwconv.{p}",
    _BLOCK + "mlp.fc2.{p}",
    "norm{i}.{p}",
    "norm.{p}",
    "head.{p}",
)
"""Every tensor that a PVT of either version can have."""


def _renamed(leading: Mapping[str, str], *, ms_norms: bool = False) -> tuple[Rule, ...]:
    """Canonical names but for these leading parts and, where asked, MindSpore's norms."""
    rows: dict[Name, Name] = {}
    for ours in _CANONICAL:
        theirs = ours
        for old, new in leading.items():
            if ours.startswith(old):
                theirs = new + ours.removeprefix(old)
        layer = theirs.removesuffix(".{p}").rpartition(".")[2]
        is_norm = layer.startswith("norm") or ours.startswith("norm")
        rows[ours] = theirs.replace("{p}", "{g}") if ms_norms and is_norm else theirs
    return _rules(rows)


_TIMM = _rules(
    {
        "patch_embed1.proj.{p}": "patch_embed.proj.{p}",
        "patch_embed1.norm.{p}": "patch_embed.norm.{p}",
        "patch_embed{i}.proj.{p}": "stages.{s}.downsample.proj.{p}",
        "patch_embed{i}.norm.{p}": "stages.{s}.downsample.norm.{p}",
        _BLOCK + "norm1.{p}": "stages.{s}.blocks.{j}.norm1.{p}",
        _BLOCK + "attn.q.{p}": "stages.{s}.blocks.{j}.attn.q.{p}",
        _BLOCK + "attn.kv.{p}": "stages.{s}.blocks.{j}.attn.kv.{p}",
        _BLOCK + "attn.proj.{p}": "stages.{s}.blocks.{j}.attn.proj.{p}",
        _BLOCK + "attn.sr.{p}": "stages.{s}.blocks.{j}.attn.sr.{p}",
        _BLOCK + "attn.norm.{p}": "stages.{s}.blocks.{j}.attn.norm.{p}",
        _BLOCK + "norm2.{p}": "stages.{s}.blocks.{j}.norm2.{p}",
        _BLOCK + "mlp.fc1.{p}": "stages.{s}.blocks.{j}.mlp.fc1.{p}",
        _BLOCK + "mlp.dwconv.dwconv.{p}": "stages.{s}.blocks.{j}.mlp.dwconv.{p}",
        _BLOCK + "mlp.fc2.{p}": "stages.{s}.blocks.{j}.mlp.fc2.{p}",
        "norm{i}.{p}": "stages.{s}.norm.{p}",
        "head.{p}": "head.{p}",
    }
)

_HF_PATCHES, _HF_BLOCK = "encoder.patch_embeddings.{s}.", "encoder.block.{s}.{j}."
_HF_V1 = _rules(
    {
        "pos_embed{i}": _HF_PATCHES + "position_embeddings",
        "cls_token": "encoder.patch_embeddings.3.cls_token",
        "patch_embed{i}.proj.{p}": _HF_PATCHES + "projection.{p}",
        "patch_embed{i}.norm.{p}": _HF_PATCHES + "layer_norm.{p}",
        _BLOCK + "norm1.{p}": _HF_BLOCK + "layer_norm_1.{p}",
        _BLOCK + "attn.q.{p}": _HF_BLOCK + "attention.self.query.{p}",
        _BLOCK + "attn.kv.{p}": (
            _HF_BLOCK + "attention.self.key.{p}",
            _HF_BLOCK + "attention.self.value.{p}",
        ),
        _BLOCK + "attn.proj.{p}": _HF_BLOCK + "attention.output.dense.{p}",
        _BLOCK + "attn.sr.{p}": _HF_BLOCK + "attention.self.sequence_reduction.{p}",
        _BLOCK + "attn.norm.{p}": _HF_BLOCK + "attention.self.layer_norm.{p}",
        _BLOCK + "norm2.{p}": _HF_BLOCK + "layer_norm_2.{p}",
        _BLOCK + "mlp.fc1.{p}": _HF_BLOCK + "mlp.dense1.{p}",
        _BLOCK + "mlp.fc2.{p}": _HF_BLOCK + "mlp.dense2.{p}",
        "norm.{p}": "encoder.layer_norm.{p}",
        "head.{p}": "classifier.{p}",
    }
)

_HF_STAGE = "encoder.layers.{s}."
_HF_LAYER = _HF_STAGE + "blocks.{j}."
_HF_V2 = _rules(
    {
        "patch_embed{i}.proj.{p}": _HF_STAGE + "patch_embedding.proj.{p}",
        "patch_embed{i}.norm.{p}": _HF_STAGE + "patch_embedding.layer_norm.{p}",
        _BLOCK + "norm1.{p}": _HF_LAYER + "layer_norm_1.{p}",
        _BLOCK + "attn.q.{p}": _HF_LAYER + "attention.query.{p}",
        _BLOCK + "attn.kv.{p}": (
            _HF_LAYER + "attention.key.{p}",
            _HF_LAYER + "attention.value.{p}",
        ),
        _BLOCK + "attn.proj.{p}": _HF_LAYER + "attention.proj.{p}",
        _BLOCK + "attn.sr.{p}": _HF_LAYER + "attention.spatial_reduction.{p}",
        _BLOCK + "attn.norm.{p}": _HF_LAYER + "attention.layer_norm.{p}",
        _BLOCK + "norm2.{p}": _HF_LAYER + "layer_norm_2.{p}",
        _BLOCK + "mlp.fc1.{p}": _HF_LAYER + "mlp.dense1.{p}",
        _BLOCK + "mlp.dwconv.dwconv.{p}": _HF_LAYER + "mlp.dwconv.dwconv.{p}",
        _BLOCK + "mlp.fc2.{p}": _HF_LAYER + "mlp.dense2.{p}",
        "norm{i}.{p}": _HF_STAGE + "layer_norm.{p}",
        "head.{p}": "classifier.{p}",
    }
)


def _mmdet(block: str, fc2: str, rest: Mapping[Name, Name]) -> tuple[Rule, ...]:
    """mmdet's names, whose blocks are called ``block`` and whose last linear layer ``fc2``."""
    rows: dict[Name, Name] = {
        "patch_embed{i}.proj.{p}": "layers.{s}.0.projection.{p}",
        "patch_embed{i}.norm.{p}": "layers.{s}.0.norm.{p}",
        _BLOCK + "norm1.{p}": block + "norm1.{p}",
        (_BLOCK + "attn.q.{p}", _BLOCK + "attn.kv.{p}"): block + "attn.attn.in_proj_{p}",
        _BLOCK + "attn.proj.{p}": block + "attn.attn.out_proj.{p}",
        _BLOCK + "attn.sr.{p}": block + "attn.sr.{p}",
        _BLOCK + "attn.norm.{p}": block + "attn.norm.{p}",
        _BLOCK + "norm2.{p}": block + "norm2.{p}",
        _BLOCK + "mlp.fc1.{p}": block + "ffn.layers.0.{p}",
        _BLOCK + "mlp.fc2.{p}": block + fc2 + ".{p}",
        **rest,
    }
    return _rules(rows, pointwise=("ffn.layers.0.", fc2 + "."))


# A position embedding is the first layer of mmdet's stages, and moves the blocks by one.
_MMDET_V1 = _mmdet(
    "layers.{s}.1.{k}.", "ffn.layers.3", {"pos_embed{i}": "layers.{s}.1.0.pos_embed"}
)
_MMDET_V2 = _mmdet(
    "layers.{s}.1.{j}.",
    "ffn.layers.4",
    {
        _BLOCK + "mlp.dwconv.dwconv.{p}": "layers.{s}.1.{j}.ffn.layers.1.{p}",
        "norm{i}.{p}": "layers.{s}.2.{p}",
    },
)

_MINDCV_V1 = _renamed({"block{i}": "Blocks.{s}"}, ms_norms=True)
_MINDCV_V2 = _renamed(
    {
        "patch_embed{i}": "patch_embed_list.{s}",
        "block{i}": "block_list.{s}",
        "norm{i}": "norm_list.{s}",
    },
    ms_norms=True,
)

DIALECTS = (
    Dialect("official", (1, 2), "official", _renamed({})),
    Dialect(
        "pvt_ms",
        (1, 2),
        "official",
        _renamed({}, ms_norms=True),
        computes=lambda wanted, config: wanted,
        framework="ms",
    ),
    Dialect("mindcv", (1,), "mindcv", _MINDCV_V1, framework="ms"),
    Dialect("mindcv", (2,), "mindcv", _MINDCV_V2, framework="ms"),
    Dialect("timm", (2,), "official", _TIMM, hub=True),
    Dialect("hf", (1,), "hf", _HF_V1, base="pvt.", computes=expressible, hub=True),
    Dialect("hf", (2,), "hf", _HF_V2, base="pvt_v2.", computes=expressible, hub=True),
    Dialect("mmdet", (1,), "hf", _MMDET_V1, features_only=True),
    Dialect("mmdet", (2,), "hf", _MMDET_V2, features_only=True),
)
"""Every dialect, by name and version."""

NAMES = tuple(dict.fromkeys(dialect.name for dialect in DIALECTS))


def find_dialect(name: str, version: int) -> Dialect:
    """The table of a dialect for one PVT version.

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
    raise ConvertError(f"no dialect is named {name!r}: there are {', '.join(NAMES)}")
