"""What code that is written for timm's models asks of a model, as far as no framework is needed.

Names and meanings are those of timm 1.0.31 ``models/pvt_v2.py``; the twins have the rest in their
own ``habits``.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from pvt_spec.config import NUM_STAGES, PATCH_STRIDES, PVTConfig, variant_name
from pvt_spec.errors import ConfigError
from pvt_spec.model_info import default_preprocessing
from pvt_spec.numerics import Numerics, describe_numerics
from pvt_spec.taps import tap_specs
from pvt_spec.tensors import tensor_specs
from pvt_spec.words import show

Indices = int | Sequence[int] | None
"""Which stages are meant: the last so many, those of these numbers (from the end if negative), or
all (None)."""

_MERGED = (99999,)
"""What puts a group into the one before it: timm ``models/_manipulate.py``, MATCH_PREV_GROUP."""

_FINE: dict[str, Any] = {
    "blocks": [
        (r"^(?:pos_embed|patch_embed)(\d+)", (-1,)),
        (r"^cls_token$", (NUM_STAGES, -1)),
        (r"^block(\d+)\.(\d+)\.", None),
        (r"^norm([123])\.", _MERGED),
    ],
    "head": r"^(?:norm4?|head)\.",
}
"""Kind of layer -> patterns of its tensors' names, whose numbers order the layers, each with what
comes after these."""

_COARSE: dict[str, Any] = {
    "stages": [
        (r"^(?:pos_embed|patch_embed|block|norm)(\d+)", None),
        (r"^cls_token$", (NUM_STAGES,)),
    ],
    "head": r"^(?:norm|head)\.",
}
"""The same where a stage is one layer."""


class FeatureInfo(list[dict[str, Any]]):
    """The maps of the stages: a record for each, and questions about those that are answered.

    A record has ``num_chs``, the channels; ``reduction``, how many pixels a cell is wide;
    ``module``, the name of the layer that has the map, or its tokens; and ``index``.

    Attributes:
        out_indices: The places of the maps that are answered.
    """

    def __init__(self, records: Iterable[dict[str, Any]], out_indices: Sequence[int]):
        super().__init__(records)
        self.out_indices = tuple(out_indices)

    def get(self, key: str, idx: int | Sequence[int] | None = None) -> Any:
        """Returns a field of one record, or of several: those that are answered, or of ``idx``."""
        if isinstance(idx, int):
            return self[idx][key]
        return [self[i][key] for i in (self.out_indices if idx is None else idx)]

    def get_dicts(
        self, keys: Sequence[str] | None = None, idx: int | Sequence[int] | None = None
    ) -> Any:
        """Returns a record, or several, as :meth:`get`; of each these keys, or all."""
        if isinstance(idx, int):
            return {key: self[idx][key] for key in (self[idx] if keys is None else keys)}
        return [self.get_dicts(keys, i) for i in (self.out_indices if idx is None else idx)]

    def channels(self, idx: int | Sequence[int] | None = None) -> Any:
        """Returns the channels of maps, as :meth:`get`."""
        return self.get("num_chs", idx)

    def reduction(self, idx: int | Sequence[int] | None = None) -> Any:
        """Returns how many pixels the cells of maps are wide, as :meth:`get`."""
        return self.get("reduction", idx)

    def module_name(self, idx: int | Sequence[int] | None = None) -> Any:
        """Returns the names of the layers that have maps, as :meth:`get`."""
        return self.get("module", idx)


def stage_indices(count: int, indices: Indices) -> list[int]:
    """Returns the stages that are meant, of ``count``, in order, numbered from 0 at the first.

    Raises:
        ConfigError: There is no such stage, or none is meant.
    """
    if indices is None:
        return list(range(count))
    if isinstance(indices, int):
        chosen = list(range(count - indices, count))
    else:
        chosen = [index + count if index < 0 else index for index in indices]
    if not chosen or not all(0 <= index < count for index in chosen):
        raise ConfigError(
            f"stages {show(indices)}: expected how many of the last of {count}, or a list of "
            f"numbers from {-count} to {count - 1}"
        )
    return sorted(set(chosen))


class Habits:
    """A model of which these questions are answered from what it is.

    Attributes:
        config: The architecture.
        numerics: The maths.
        num_stages: How many of its stages it still has, the first ones.
        out_indices: The stages whose maps it answers; none without ``features_only``.
        global_pool: How its features are made of the last stage's answer: ``"token"`` (v1, the
            class token), ``"avg"`` (v2, the mean) or ``""``, where they are that itself.
    """

    config: PVTConfig
    numerics: Numerics
    num_stages: int
    out_indices: tuple[int, ...]
    global_pool: str

    @property
    def num_classes(self) -> int:
        """Outputs of the head; 0 where there is none."""
        return self.config.num_classes

    @property
    def in_chans(self) -> int:
        """Channels of the input image."""
        return self.config.in_chans

    @property
    def depths(self) -> tuple[int, ...]:
        """Blocks in each stage."""
        return self.config.depths[: self.num_stages]

    @property
    def num_features(self) -> int:
        """Channels of what ``forward_features`` answers."""
        return self.config.embed_dims[self.num_stages - 1]

    @property
    def head_hidden_size(self) -> int:
        """Channels of what the head is given."""
        return self.num_features

    @property
    def feature_info(self) -> FeatureInfo:
        """The maps of its stages."""
        records, reduction = [], 1
        for stage in range(self.num_stages):
            reduction *= PATCH_STRIDES[stage]
            records.append(
                {
                    "num_chs": self.config.embed_dims[stage],
                    "reduction": reduction,
                    "module": self._module_of_map(stage),
                    "index": stage,
                }
            )
        return FeatureInfo(records, self.out_indices or range(self.num_stages))

    def _module_of_map(self, stage: int) -> str:
        if self.config.features_only:
            return f"stage{stage + 1}"
        if self.config.version == 2:
            return f"norm{stage + 1}"
        return f"block{stage + 1}.{self.config.depths[stage] - 1}"

    @property
    def pretrained_cfg(self) -> dict[str, Any]:
        """What the model is given and where it begins and ends, under timm's names.

        The preparation of images is what models of this maths are evaluated with; a file that was
        trained otherwise says so itself (:func:`convert.load_model`).
        """
        profile = describe_numerics(self.numerics, self.config.version).partition(" ")[0]
        images = default_preprocessing(self.config, profile)
        return {
            "architecture": variant_name(self.config),
            "num_classes": self.num_classes,
            "input_size": (self.in_chans, *self.config.image_size),
            "fixed_input_size": False,
            "pool_size": self.config.pos_embed_grid(NUM_STAGES - 1),
            "crop_pct": images.crop_pct,
            "interpolation": images.interpolation,
            "mean": images.mean,
            "std": images.std,
            "first_conv": "patch_embed1.proj",
            "classifier": "head",
        }

    @property
    def default_cfg(self) -> dict[str, Any]:
        """The same as :attr:`pretrained_cfg`, under its older name."""
        return self.pretrained_cfg

    def no_weight_decay(self) -> set[str]:
        """Returns the tensors that do not decay, vectors apart: the official code's."""
        return {spec.name for spec in tensor_specs(self.config) if spec.kind == "cls_token"}

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Returns the layers that learn at one rate, as regular expressions of names for timm.

        They are those of :func:`pvt_train.optim.optimizer.layer_scales`, or whole stages.

        Args:
            coarse: Whether a stage is one layer.
        """
        return dict(_COARSE if coarse else _FINE)

    def own_taps(self) -> list[str]:
        """Returns the intermediate results of the stages that it still has, in forward order."""
        return [
            tap.name
            for tap in tap_specs(self.config)
            if (NUM_STAGES - 1 if tap.stage is None else tap.stage) < self.num_stages
        ]

    def own_pool(self) -> str:
        """Returns the ``global_pool`` of a model like this that answers features (B, C)."""
        if self.num_stages < NUM_STAGES or self.config.features_only:
            return ""
        return "token" if self.config.version == 1 else "avg"

    def check_pool(self, num_classes: int, global_pool: str) -> None:
        """Refuses a head, or features, that the model cannot have.

        Raises:
            ConfigError: It cannot.
        """
        pool = self.own_pool()
        if global_pool not in ("", pool):
            expected = " or ".join(map(show, sorted({pool, ""})))
            raise ConfigError(f"global_pool is {show(global_pool)}, expected {expected}")
        if num_classes and not global_pool:
            remedy = f"give global_pool={pool!r}" if pool else "only whole models have a head"
            raise ConfigError(f"{num_classes} classes without pooled features: {remedy}")
