"""The MindSpore twin: PVT v1 and v2 from one spec, with every number given explicitly.

Reads side by side with ``pvt_torch/model.py``. Sources: Wang et al., ICCV 2021 and 2022, and
whai362/PVT ``pvt.py`` and ``pvt_v2.py``.
"""

from typing import Any

import mindspore as ms
from mindspore import Parameter, Tensor, nn, ops

from pvt_ms.habits import TimmCell
from pvt_ms.layers import Conv2d, gelu, layer_norm, linear, make_head
from pvt_spec import NUM_STAGES, PATCH_STRIDES, POOL_SIZE, Numerics, PVTConfig, symmetric_padding


class PatchEmbed(nn.Cell):
    """Image or feature map to tokens: v1 cuts tiles, v2 overlapping ones."""

    def __init__(self, config: PVTConfig, numerics: Numerics, stage: int):
        super().__init__()
        in_chans = config.embed_dims[stage - 1] if stage else config.in_chans
        dim = config.embed_dims[stage]
        kernel, pad = config.patch_kernel(stage), symmetric_padding(config, stage)
        padding = numerics.conv_padding
        self.proj = Conv2d(in_chans, dim, kernel, PATCH_STRIDES[stage], padding, pad, groups=1)
        self.norm = layer_norm(dim, numerics.patch_norm_eps)

    def construct(self, x: Tensor) -> tuple[Tensor, int, int]:
        """Maps (B, C, H, W) to tokens (B, N, dim), and the grid's height and width."""
        x = self.proj(x)
        B, C, H, W = x.shape
        x = x.reshape(B, C, H * W).transpose(0, 2, 1)  # (B, N, C)
        return self.norm(x), H, W


class Attention(nn.Cell):
    """Spatial-reduction attention: keys and values come from a coarser grid than queries."""

    def __init__(self, config: PVTConfig, numerics: Numerics, stage: int):
        super().__init__()
        dim, ratio = config.embed_dims[stage], config.sr_ratios[stage]
        self.num_heads = config.num_heads[stage]
        self.head_dim = dim // self.num_heads
        self.scale = self.head_dim**-0.5
        self.linear = config.linear
        self.reduces = config.reduces(stage)
        self.q = linear(dim, dim)
        self.kv = linear(dim, 2 * dim)
        self.proj = linear(dim, dim)
        if self.reduces:
            ratio = 1 if self.linear else ratio
            self.sr = Conv2d(dim, dim, ratio, ratio, numerics.conv_padding, pad=0, groups=1)
            self.norm = layer_norm(dim, numerics.attn_norm_eps)
        if self.linear:
            self.act = gelu(numerics.gelu)

    def reduce(self, x: Tensor, H: int, W: int) -> Tensor:
        """Returns the tokens (B, M, C) that keys and values are made of."""
        B, _, C = x.shape
        x = x.transpose(0, 2, 1).reshape(B, C, H, W)
        if self.linear:
            x = ops.adaptive_avg_pool2d(x, (POOL_SIZE, POOL_SIZE))
        x = self.sr(x)
        x = x.reshape(B, C, -1).transpose(0, 2, 1)  # (B, M, C)
        x = self.norm(x)
        return self.act(x) if self.linear else x

    def construct(self, x: Tensor, H: int, W: int) -> Tensor:
        """Maps tokens (B, N, C) of a grid (H, W) to tokens (B, N, C)."""
        B, N, C = x.shape
        q = self.q(x).reshape(B, N, self.num_heads, self.head_dim).transpose(0, 2, 1, 3)
        kv = self.kv(self.reduce(x, H, W) if self.reduces else x)
        kv = kv.reshape(B, -1, 2, self.num_heads, self.head_dim).transpose(2, 0, 3, 1, 4)
        k, v = kv[0], kv[1]  # (B, heads, M, head_dim)
        x = self.attend(q, k, v).transpose(0, 2, 1, 3).reshape(B, N, C)
        return self.proj(x)

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Maps (B, heads, N, head_dim), and M keys and values, to (B, heads, N, head_dim)."""
        attn = ops.matmul(q, k.transpose(0, 1, 3, 2)) * self.scale  # (B, heads, N, M)
        return ops.matmul(ops.softmax(attn, axis=-1), v)


class DWConv(nn.Cell):
    """v2's 3x3 depthwise convolution between the two linear layers of the MLP."""

    def __init__(self, dim: int):
        super().__init__()
        self.dwconv = Conv2d(dim, dim, 3, 1, "symmetric", pad=1, groups=dim)

    def construct(self, x: Tensor, H: int, W: int) -> Tensor:
        """Maps tokens (B, N, C) of a grid (H, W) to tokens (B, N, C)."""
        B, N, C = x.shape
        x = self.dwconv(x.transpose(0, 2, 1).reshape(B, C, H, W))
        return x.reshape(B, C, N).transpose(0, 2, 1)


class Mlp(nn.Cell):
    """Feed-forward; v2 adds a depthwise convolution, linear v2 a ReLU before it."""

    def __init__(self, config: PVTConfig, numerics: Numerics, stage: int):
        super().__init__()
        dim = config.embed_dims[stage]
        hidden = dim * config.mlp_ratios[stage]
        self.linear = config.linear
        self.convolves = config.version == 2
        self.fc1 = linear(dim, hidden)
        if self.convolves:
            self.dwconv = DWConv(hidden)
        self.act = gelu(numerics.gelu)
        self.fc2 = linear(hidden, dim)

    def construct(self, x: Tensor, H: int, W: int) -> Tensor:
        """Maps tokens (B, N, C) of a grid (H, W) to tokens (B, N, C)."""
        x = self.fc1(x)
        if self.linear:
            x = ops.relu(x)
        if self.convolves:
            x = self.dwconv(x, H, W)
        return self.fc2(self.act(x))


class Block(nn.Cell):
    """A transformer encoder layer."""

    def __init__(self, config: PVTConfig, numerics: Numerics, stage: int):
        super().__init__()
        dim = config.embed_dims[stage]
        self.norm1 = layer_norm(dim, numerics.norm1_eps)
        self.attn = Attention(config, numerics, stage)
        self.norm2 = layer_norm(dim, numerics.norm2_eps)
        self.mlp = Mlp(config, numerics, stage)

    def construct(self, x: Tensor, H: int, W: int, drop_path: Tensor | None = None) -> Tensor:
        """Maps ``x`` (B, N, C); each sample's branches are scaled by ``drop_path`` (2, B)."""
        attn = self.attn(self.norm1(x), H, W)
        x = x + (attn if drop_path is None else attn * drop_path[0].reshape(-1, 1, 1))
        mlp = self.mlp(self.norm2(x), H, W)
        return x + (mlp if drop_path is None else mlp * drop_path[1].reshape(-1, 1, 1))


class PyramidVisionTransformer(TimmCell):
    """PVT v1 or v2. Parameters have canonical names; see :func:`pvt_ms.create_model`."""

    patch_embed1: PatchEmbed

    def __init__(self, config: PVTConfig, numerics: Numerics):
        super().__init__(config, numerics)
        self.version = config.version
        self.features_only = config.features_only
        dim = config.embed_dims[-1]
        for stage in range(NUM_STAGES):
            self.add_stage(config, numerics, stage)
        if self.version == 1 and not self.features_only:
            self.cls_token = Parameter(ops.zeros((1, 1, dim), ms.float32), name="cls_token")
            self.norm = layer_norm(dim, numerics.final_norm_eps)
        self.head = make_head(config)

    def add_stage(self, config: PVTConfig, numerics: Numerics, stage: int) -> None:
        """Adds the layers of one stage under their canonical names."""
        blocks = [Block(config, numerics, stage) for _ in range(config.depths[stage])]
        setattr(self, f"patch_embed{stage + 1}", PatchEmbed(config, numerics, stage))
        setattr(self, f"block{stage + 1}", nn.CellList(blocks))
        if self.version == 2:
            norm = layer_norm(config.embed_dims[stage], numerics.final_norm_eps)
            setattr(self, f"norm{stage + 1}", norm)
        else:
            H, W = config.pos_embed_grid(stage)
            shape = (1, H * W + config.has_class_token(stage), config.embed_dims[stage])
            zeros = ops.zeros(shape, getattr(ms, numerics.pos_embed_dtype))
            name = f"pos_embed{stage + 1}"
            setattr(self, name, Parameter(zeros, name=name))
            setattr(self, f"embed{stage + 1}", nn.Identity())
        if self.features_only:
            setattr(self, f"stage{stage + 1}", nn.Identity())

    def resized_pos_embed(self, pos_embed: Tensor, stage: int, H: int, W: int) -> Tensor:
        """Resizes position embeddings (1, N, C) of a stage's own grid to (1, H * W, C)."""
        grid = self.config.pos_embed_grid(stage)
        if grid == (H, W):
            return pos_embed
        x = pos_embed.reshape(1, grid[0], grid[1], -1).transpose(0, 3, 1, 2)
        corners = self.numerics.pos_embed_resize == "align_corners"
        x = ops.interpolate(x, size=(H, W), mode="bilinear", align_corners=corners)
        return x.reshape(1, -1, H * W).transpose(0, 2, 1)

    def add_positions(self, x: Tensor, stage: int, H: int, W: int) -> Tensor:
        """Adds v1's position embeddings to tokens (B, N, C), and the class token where it joins."""
        pos_embed = getattr(self, f"pos_embed{stage + 1}").astype(x.dtype)
        if self.config.has_class_token(stage):
            cls_token = self.cls_token.astype(x.dtype).broadcast_to((x.shape[0], 1, x.shape[2]))
            x = ops.cat((cls_token, x), axis=1)
            grid = self.resized_pos_embed(pos_embed[:, 1:], stage, H, W)
            pos_embed = ops.cat((pos_embed[:, :1], grid), axis=1)
        else:
            pos_embed = self.resized_pos_embed(pos_embed, stage, H, W)
        return getattr(self, f"embed{stage + 1}")(x + pos_embed)

    def sample_drop_path(self, B: int) -> Tensor:
        """Draws ``drop_path`` for B samples, float32 (blocks, 2, B)."""
        rates = Tensor(self.config.drop_path_rates(), ms.float32).reshape(-1, 1, 1)
        kept = ops.rand(rates.shape[0], 2, B, dtype=ms.float32) >= rates
        return kept / (1 - rates)

    def forward_stage(
        self, stage: int, x: Tensor, drop_path: Tensor | None
    ) -> tuple[Tensor, int, int]:
        """Maps a stage's input (B, C, H, W) to its tokens (B, N, C), and their grid's sides."""
        x, H, W = getattr(self, f"patch_embed{stage + 1}")(x)
        if self.version == 1:
            x = self.add_positions(x, stage, H, W)
        layer = sum(self.config.depths[:stage])
        for block in getattr(self, f"block{stage + 1}"):
            x = block(x, H, W, None if drop_path is None else drop_path[layer])
            layer += 1
        if self.version == 2:
            x = getattr(self, f"norm{stage + 1}")(x)
        return x, H, W

    def forward_stages(
        self,
        x: Tensor,
        drop_path: Tensor | None,
        count: int,
        wanted: tuple[int, ...],
        norm: bool = False,
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Maps images to the answer of the first ``count`` stages, and the maps of those wanted.

        The answer is a map (B, C, H, W), after v1's class token joined the normed tokens
        (B, 1 + H * W, C); of these a map is not normed unless ``norm``.
        """
        B = x.shape[0]
        if drop_path is None and self.training and self.config.drop_path_rate > 0:
            drop_path = self.sample_drop_path(B)
        maps: tuple[Tensor, ...] = ()
        for stage in range(count):
            x, H, W = self.forward_stage(stage, x, drop_path)
            if self.config.has_class_token(stage):
                tokens, x = x, self.norm(x)
                if stage in wanted:
                    tokens = (x if norm else tokens)[:, 1:]
                    maps += (tokens.reshape(B, H, W, -1).transpose(0, 3, 1, 2),)
            else:
                x = x.reshape(B, H, W, -1).transpose(0, 3, 1, 2)
                if self.features_only:
                    x = getattr(self, f"stage{stage + 1}")(x)
                if stage in wanted:
                    maps += (x,)
        return x, maps

    def forward_features(
        self, x: Tensor, drop_path: Tensor | None = None
    ) -> Tensor | tuple[Tensor, ...]:
        """Maps images (B, in_chans, H, W) to what the head makes features of.

        In v1 these are normed tokens (B, 1 + N, C), the class token first; in v2 a map
        (B, C, H / 32, W / 32); with ``features_only`` the maps of the stages ``out_indices``.
        """
        x, maps = self.forward_stages(x, drop_path, self.num_stages, self.out_indices)
        return maps if self.features_only else x

    def forward_head(self, x: Any, pre_logits: bool = False) -> Tensor | tuple[Tensor, ...]:
        """Maps what :meth:`forward_features` answers to logits (B, num_classes).

        Args:
            x: Tokens (v1), a map (v2), or the maps of ``features_only``, which stay as they are.
            pre_logits: Whether to stop at the features (B, C): class token (v1) or mean (v2).
        """
        if self.global_pool == "token":
            x = x[:, 0]
        if self.global_pool == "avg":
            x = x.mean(axis=(2, 3))
        return x if pre_logits else self.head(x)

    def construct(self, x: Tensor, drop_path: Tensor | None = None) -> Tensor | tuple[Tensor, ...]:
        """Maps images to logits (B, num_classes), or to features or maps without a head.

        Args:
            x: float32 (B, in_chans, H, W), normalised.
            drop_path: float32 (blocks, 2, B), training only: what the two branches of each block
                are scaled by, 0 or 1 / (1 - rate); see ``pvt_train.input.randomness``. Where none
                is given in training mode, it is drawn from the framework's generator.
        """
        return self.forward_head(self.forward_features(x, drop_path))
