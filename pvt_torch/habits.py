"""What a user of PyTorch and of timm's models does with one, beside running it.

Reads side by side with ``pvt_ms/habits.py``. What needs no framework is in
:mod:`pvt_spec.habits`.
"""

import dataclasses
import warnings
from collections.abc import Callable
from typing import Any, NoReturn

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from convert.model.positions import resized_positions
from pvt_spec import NUM_STAGES, ConfigError, Numerics, PVTConfig
from pvt_spec.habits import Habits, Indices, stage_indices
from pvt_spec.initial import initial_head
from pvt_spec.unseen import UNSEEN_KEY, Unseen
from pvt_spec.words import show
from pvt_torch.layers import make_head

_OF_A_STAGE = ("patch_embed", "pos_embed", "embed", "block", "norm", "stage")
"""What a model has for each stage, before its number."""


class TimmModule(Habits, nn.Module):
    """A module with the habits of timm's models."""

    head: nn.Module
    norm: nn.Module
    forward_stages: Callable[..., tuple[Tensor, tuple[Tensor, ...]]]

    def __init__(self, config: PVTConfig, numerics: Numerics):
        super().__init__()
        self.config = config
        self.numerics = numerics
        self.num_stages = NUM_STAGES
        self.out_indices = tuple(range(NUM_STAGES)) if config.features_only else ()
        self.global_pool = self.own_pool()
        self.grad_checkpointing = False

    def get_classifier(self) -> nn.Module:
        """Returns the head; ``nn.Identity`` where there is none."""
        return self.head

    def reset_classifier(
        self, num_classes: int, global_pool: str | None = None, *, seed: int = 0
    ) -> None:
        """Gives the model a new head, the one that ``create_model`` would have given it.

        Args:
            num_classes: Outputs of the head; 0 for none: the model answers features.
            global_pool: How features are made, see :class:`pvt_spec.habits.Habits`; None leaves
                it as it is.
            seed: The seed of the initial weights.

        Raises:
            ConfigError: The model cannot have it; it is left as it was.
        """
        pool = self.global_pool if global_pool is None else global_pool
        config = dataclasses.replace(self.config, num_classes=num_classes)
        self.check_pool(num_classes, pool)
        self.config, self.global_pool = config, pool
        first = self.get_parameter("patch_embed1.proj.weight")
        with torch.device("meta"):  # elsewhere torch would draw weights of its own
            head = make_head(config)
        self.head = head.to(first.dtype).to_empty(device=first.device).train(self.training)
        with torch.no_grad():
            for name, array in initial_head(config, seed).items():
                self.get_parameter(name).copy_(torch.from_numpy(array))

    def set_input_size(self, img_size: int | tuple[int, int]) -> None:
        """Makes the model one for images of another size, as ``convert --image-size`` does.

        v1's position embeddings become other parameters where the size of their grids changes.

        Args:
            img_size: Pixels, a square's side or (H, W).

        Raises:
            PvtError: It cannot be; the model is left as it was.
        """
        size = (img_size, img_size) if isinstance(img_size, int) else img_size
        held = {n: p for n, p in self.named_parameters() if n.startswith("pos_embed")}
        arrays = {name: p.detach().float().cpu().numpy() for name, p in held.items()}
        config, numerics, resized = resized_positions(arrays, self.config, self.numerics, size)
        widens = numerics != self.numerics
        self.config, self.numerics = config, numerics
        for name, array in resized.items():
            old = held[name]
            new = torch.from_numpy(array).to(old.device, torch.float32 if widens else old.dtype)
            setattr(self, name, nn.Parameter(new, requires_grad=old.requires_grad))

    def forward_intermediates(
        self,
        x: Tensor,
        indices: Indices = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """Maps images to the maps of stages.

        Args:
            x: float32 (B, in_chans, H, W), normalised.
            indices: The stages; see :data:`pvt_spec.habits.Indices`.
            norm: Whether v1's last map is normed; v2's maps always are, others never.
            stop_early: Whether to stop at the last stage that is asked for.
            output_fmt: How maps lie: ``"NCHW"``.
            intermediates_only: Whether to answer nothing else.

        Returns:
            The maps (B, C, H, W) from the first stage on; before them, unless
            ``intermediates_only``, the answer of the last stage that was run.

        Raises:
            ConfigError: There is no such stage or format.
        """
        if output_fmt != "NCHW":
            raise ConfigError(f"output_fmt is {show(output_fmt)}, expected NCHW")
        wanted = stage_indices(self.num_stages, indices)
        count = max(wanted) + 1 if stop_early else self.num_stages
        x, maps = self.forward_stages(x, None, count, tuple(wanted), norm)
        return list(maps) if intermediates_only else (x, list(maps))

    def prune_intermediate_layers(
        self, indices: Indices = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Takes out what the maps of some stages do not need: later stages, the head, v1's norm.

        Weights of the whole architecture still fill the model (``load_weights``).

        Args:
            indices: The stages; see :data:`pvt_spec.habits.Indices`.
            prune_norm: Whether v1's last norm goes where the last stage stays.
            prune_head: Whether the head goes where the last stage stays.

        Returns:
            The numbers of the stages, from 0 at the first.

        Raises:
            ConfigError: There is no such stage.
        """
        wanted = stage_indices(self.num_stages, indices)
        count = max(wanted) + 1
        if count < NUM_STAGES or prune_head:
            self.reset_classifier(0, "")
        gone = [f"{layer}{i + 1}" for i in range(count, NUM_STAGES) for layer in _OF_A_STAGE]
        if count < NUM_STAGES:
            gone += ["cls_token", "norm"]
        for name in gone:
            if hasattr(self, name):
                delattr(self, name)
        if prune_norm and hasattr(self, "norm"):
            self.norm = nn.Identity()
        self.num_stages = count
        if self.config.features_only:
            self.out_indices = tuple(wanted)
        return wanted

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Has training keep what goes into each block alone, and compute the rest of it again."""
        self.grad_checkpointing = enable

    def run_block(self, block: nn.Module, *inputs: Any) -> Tensor:
        """Returns a block's answer, of which backward may compute what it needs again."""
        if self.grad_checkpointing and torch.is_grad_enabled():
            # A block draws nothing at random: its masks are among its inputs.
            return checkpoint(block, *inputs, use_reentrant=False, preserve_rng_state=False)
        return block(*inputs)

    def _save_to_state_dict(
        self, destination: dict[str, Any], prefix: str, keep_vars: bool
    ) -> None:
        """Adds to a ``state_dict()`` what its tensors do not show, for ``convert`` to read.

        It goes where torch keeps the version of each module, and changes no name. (A checkpoint of
        MindSpore has no such place.)
        """
        super()._save_to_state_dict(destination, prefix, keep_vars)
        versions = getattr(destination, "_metadata", {})
        if prefix[:-1] in versions:
            unseen = Unseen(self.numerics, self.config.num_heads)
            versions[prefix[:-1]][UNSEEN_KEY] = unseen.to_json()

    def _load_from_state_dict(self, state_dict: Any, prefix: str, said: Any, *rest: Any) -> None:
        """Fills the model's own tensors; warns where they are a twin's of other maths or heads."""
        own = Unseen(self.numerics, self.config.num_heads).to_json()
        if said.get(UNSEEN_KEY, own) != own:
            warnings.warn(
                "these weights are those of a model of other maths or heads, which answers "
                "otherwise with them than this one: make it with theirs",
                stacklevel=4,
            )
        super()._load_from_state_dict(state_dict, prefix, said, *rest)

    def __prepare_scriptable__(self) -> NoReturn:
        """Says what to use instead of ``torch.jit.script``, which finds no layers by their names.

        (It would ask for four copies of each loop over stages.)
        """
        raise TypeError(
            "torch.jit.script cannot compile this model, whose layers are found by their names: "
            "use torch.jit.trace(model.eval(), images), torch.export.export or torch.compile"
        )
