"""The ONNX twin: PVT v1 and v2 as a graph, straight from the spec.

Reads beside ``pvt_torch/model.py`` and ``pvt_ms/model.py``: the same steps in the same order.
Every weight is an initializer with its canonical name and dtype that its operator reads itself;
every tap is a value of its own name.
"""

import numpy as np
from onnx import TensorProto

from pvt_data.images.pixels import pixel_mean, pixel_std
from pvt_onnx.graph.layers import BATCH, INPUT, LayerWriter
from pvt_onnx.graph.operators import adaptive_avg_pool
from pvt_onnx.graph.preprocess import NORMALISED, resize_and_crop
from pvt_onnx.graph.writer import Size
from pvt_spec import (
    NUM_STAGES,
    PATCH_STRIDES,
    POOL_SIZE,
    ConfigError,
    Preprocessing,
    output_names,
    reduced_tokens,
    symmetric_padding,
)

INT64_MAX = 2**63 - 1

RESIZES = 11
"""The opset from which an image can be resized as the numerics say."""


class ModelWriter(LayerWriter):
    """Writes the nodes of one PVT."""

    def map_size(self, stage: int, x: str) -> tuple[Size, Size]:
        """Returns (H, W) of the map ``x`` (B, C, H, W) that starts a stage."""
        if self.grids:
            return self.grids[stage]
        return self.graph.size_of(x, 2), self.graph.size_of(x, 3)

    def patch_embed(self, x: str, stage: int) -> tuple[str, Size, Size]:
        """Maps an image or map (B, C, H, W) to tokens: v1 cuts tiles, v2 overlapping ones."""
        name = f"patch_embed{stage + 1}"
        kernel, stride = self.config.patch_kernel(stage), PATCH_STRIDES[stage]
        x = self.conv(x, f"{name}.proj", kernel, stride, pad=symmetric_padding(self.config, stage))
        H, W = self.map_size(stage, x)
        x = self.to_tokens(x, self.config.embed_dims[stage], f"{name}.proj")
        return self.layer_norm(x, f"{name}.norm", self.numerics.patch_norm_eps, name), H, W

    def project(
        self,
        x: str,
        layer: str,
        N: Size,
        C: int,
        out: int,
        H: Size = 1,
        W: Size = -1,
        grid: str = "",
    ) -> str:
        """Adds a linear layer of attention over tokens (B, N, C), of one head or several.

        Returns:
            Rows (B * N, out), or where it is a convolution, over a map H by W that is called
            ``grid``, tokens (B, N, out).
        """
        if "attn.q" not in self.target.kernels:
            return self.linear(self.to_rows(x, N, C), layer)
        x = self.to_map(x, C, H, W, grid or f"{x}/map")
        return self.to_tokens(self.pointwise(x, layer), out, f"{layer}/tokens")

    def reduce(self, x: str, stage: int, H: Size, W: Size, name: str) -> tuple[str, Size]:
        """Returns the tokens (B, M, C) that keys and values are made of, and M."""
        C, ratio = self.config.embed_dims[stage], self.config.sr_ratios[stage]
        x = self.to_map(x, C, H, W, f"{name}.norm1/map")
        if self.config.linear:
            pooled = adaptive_avg_pool(
                self.graph, self.wide(x), H, W, POOL_SIZE, self.inner(f"{name}.pool")
            )
            x = self.narrow(pooled, f"{name}.pool")
            ratio = 1
        x = self.conv(x, f"{name}.sr", ratio, ratio)
        M = self.reduced_size(x, stage)
        x = self.to_tokens(x, C, f"{name}.sr")
        x = self.layer_norm(x, f"{name}.norm", self.numerics.attn_norm_eps, f"{name}.norm")
        return (self.gelu(x, f"{name}.act") if self.config.linear else x), M

    def reduced_size(self, x: str, stage: int) -> Size:
        """Returns how many tokens a reduced map ``x`` (B, C, H, W) has."""
        if self.grids:
            return reduced_tokens(self.config, self.numerics, stage, self.grids[stage])
        if self.config.linear:
            return POOL_SIZE**2
        return self.graph.product(self.graph.size_of(x, 2), self.graph.size_of(x, 3))

    def attention(self, x: str, stage: int, H: Size, W: Size, N: Size, name: str) -> str:
        """Adds spatial-reduction attention over tokens (B, N, C)."""
        g, C, heads = self.graph, self.config.embed_dims[stage], self.config.num_heads[stage]
        head_dim = C // heads
        reduces, norm1 = self.config.reduces(stage), f"{name}.norm1/map"
        # Reduced are maps, of which a query that is a convolution takes the same one.
        q = self.project(x, f"{name}.q", N, C, C, *((H, W, norm1) if reduces else ()))
        q = self.to_heads(q, N, heads, head_dim, f"{name}.q")
        M = N
        if reduces:
            x, M = self.reduce(x, stage, H, W, name)
        kv = self.project(x, f"{name}.kv", M, C, 2 * C)
        axis = 2 if "attn.kv" in self.target.kernels else 1
        k, v = g.split(kv, axis, C, f"{name}.k/rows", f"{name}.v/rows")
        k = self.to_heads(k, M, heads, head_dim, f"{name}.k")
        v = self.to_heads(v, M, heads, head_dim, f"{name}.v")
        k = g.transpose(k, 0, 1, 3, 2, name=f"{name}.k/columns")  # (B, heads, head_dim, M)
        attn = g.add("MatMul", q, k, name=f"{name}.qk")  # (B, heads, N, M)
        attn = self.wide(attn)
        attn = g.add("Mul", attn, g.number(head_dim**-0.5), name=f"{name}.scaled")
        attn = g.add("Softmax", attn, name=self.inner(f"{name}.softmax"), axis=3)
        attn = self.narrow(attn, f"{name}.softmax")
        x = g.add("MatMul", attn, v, name=f"{name}.heads")
        if heads > 1:
            x = g.transpose(x, 0, 2, 1, 3, name=f"{name}.merged")
        if "attn.proj" in self.target.kernels:
            x = self.to_map(x, C, 1, -1, f"{name}.merged/map")
            return self.to_tokens(self.pointwise(x, f"{name}.proj"), C, name)
        x = self.linear(self.to_rows(x, N, C, f"{name}.merged/rows"), f"{name}.proj")
        return g.reshape(x, self.batch, N, C, name=name)

    def mlp(self, x: str, stage: int, H: Size, W: Size, N: Size, name: str) -> str:
        """Adds the feed-forward over tokens (B, N, C)."""
        C = self.config.embed_dims[stage]
        hidden = C * self.config.mlp_ratios[stage]
        if "mlp.fc1" in self.target.kernels:
            return self.mlp_of_maps(x, C, hidden, H, W, name)
        x = self.linear(self.to_rows(x, N, C), f"{name}.fc1")
        if self.config.linear:
            x = self.graph.add("Relu", x, name=f"{name}.relu")
        if self.config.version == 2:
            x = self.graph.reshape(x, self.batch, H, W, hidden, name=f"{name}.fc1/grid")
            self.graph.declare(x, BATCH, H, W, hidden)
            x = self.graph.transpose(x, 0, 3, 1, 2, name=f"{name}.fc1/map")
            x = self.conv(x, f"{name}.dwconv.dwconv", 3, pad=1, group=hidden)
            x = self.graph.transpose(x, 0, 2, 3, 1, name=f"{name}.dwconv.dwconv/grid")
            x = self.to_rows(x, N, hidden, f"{name}.dwconv.dwconv/rows")
        x = self.linear(self.gelu(x, f"{name}.act"), f"{name}.fc2")
        return self.graph.reshape(x, self.batch, N, C, name=name)

    def mlp_of_maps(self, x: str, C: int, hidden: int, H: Size, W: Size, name: str) -> str:
        """Adds the feed-forward over maps, with 1x1 convolutions for linear layers.

        Only the narrow ends are transposed, and onnxruntime's blocked convolutions are quicker
        than its matrix products.
        """
        # v1's last stage has a token more than its grid; to a 1x1 convolution a row is a map.
        size = (H, W) if self.config.version == 2 else (1, -1)
        x = self.to_map(x, C, *size, f"{name}.norm2/map")
        x = self.pointwise(x, f"{name}.fc1")
        if self.config.linear:
            x = self.graph.add("Relu", x, name=f"{name}.relu")
        if self.config.version == 2:
            x = self.conv(x, f"{name}.dwconv.dwconv", 3, pad=1, group=hidden)
        x = self.gelu(x, f"{name}.act")
        x = self.pointwise(x, f"{name}.fc2")
        return self.to_tokens(x, C, name)

    def block(self, x: str, stage: int, H: Size, W: Size, N: Size, name: str) -> str:
        """Adds a transformer encoder layer over tokens (B, N, C)."""
        norm1 = self.layer_norm(x, f"{name}.norm1", self.numerics.norm1_eps, f"{name}.norm1")
        attn = self.attention(norm1, stage, H, W, N, f"{name}.attn")
        x = self.graph.add("Add", x, attn, name=f"{name}/attended")
        norm2 = self.layer_norm(x, f"{name}.norm2", self.numerics.norm2_eps, f"{name}.norm2")
        mlp = self.mlp(norm2, stage, H, W, N, f"{name}.mlp")
        return self.graph.add("Add", x, mlp, name=name)

    def resized_pos_embed(self, pos_embed: str, stage: int, H: Size, W: Size) -> str:
        """Resizes position embeddings (1, N, C) of a stage's own grid to (1, H * W, C)."""
        g, name = self.graph, f"embed{stage + 1}"
        grid_h, grid_w = self.config.pos_embed_grid(stage)
        if (grid_h, grid_w) == (H, W):
            return pos_embed
        if not self.target.dynamic_size:
            raise ConfigError(
                f"position embeddings of {grid_h}x{grid_w} tokens for maps of {H}x{W}: a graph "
                f"for {self.target.name} does not resize them: give the size with --image-size, "
                "which resizes what the file has"
            )
        if g.opset < RESIZES:
            raise ConfigError(
                f"opset {g.opset} cannot resize position embeddings: choose {RESIZES} or later, or "
                "one size of image with --image-size"
            )
        C = self.config.embed_dims[stage]
        # Before 13, what is not given has to be empty.
        unused = "" if g.opset >= 13 else g.constant("number/", np.zeros(0, np.float32))
        x = self.to_map(self.wide(pos_embed), C, grid_h, grid_w, f"{name}/map")
        x = g.add(
            "Resize",
            x,
            unused,
            unused,
            g.shape(1, C, H, W),
            name=self.inner(f"{name}/resized"),
            mode="linear",
            coordinate_transformation_mode=self.numerics.pos_embed_resize,
            **({"antialias": 0} if g.opset >= 18 else {}),
        )
        x = self.narrow(x, f"{name}/resized")
        return self.to_tokens(x, C, f"{name}/positions")

    def add_positions(self, x: str, stage: int, H: Size, W: Size) -> str:
        """Adds v1's position embeddings to tokens (B, N, C), and the class token where it joins."""
        g, name = self.graph, f"embed{stage + 1}"
        pos_embed = self.rounded(f"pos_embed{stage + 1}")
        if self.config.has_class_token(stage):
            cls_token = g.add(
                "Expand",
                self.weight("cls_token"),
                g.shape(g.size_of(INPUT, 0), 1, 1),
                name="cls_token/batch",
            )
            x = g.add("Concat", cls_token, x, name=f"{name}/tokens", axis=1)
            first, rest = f"{name}/class", f"{name}/patches"
            g.slice(pos_embed, 0, 1, 1, first)
            g.slice(pos_embed, 1, INT64_MAX, 1, rest)
            grid = self.resized_pos_embed(rest, stage, H, W)
            pos_embed = g.add("Concat", first, grid, name=f"{name}/joined", axis=1)
        else:
            pos_embed = self.resized_pos_embed(pos_embed, stage, H, W)
        return g.add("Add", x, pos_embed, name=name)

    def features(self, x: str) -> str:
        """Maps images (B, in_chans, H, W) to features (B, C): class token (v1) or token mean (v2).

        With ``features_only``, to the map (B, C, H, W) of the last stage, as those before it are.
        """
        g = self.graph
        for stage, depth in enumerate(self.config.depths):
            x, H, W = self.patch_embed(x, stage)
            N = g.product(H, W)
            if self.config.version == 1:
                x = self.add_positions(x, stage, H, W)
                # v1's last stage is not reduced, so its keys need no map.
                if self.config.has_class_token(stage):
                    N = N + 1 if isinstance(N, int) else g.size_of(x, 1)
            for block in range(depth):
                x = self.block(x, stage, H, W, N, f"block{stage + 1}.{block}")
            if self.config.version == 2:
                norm = f"norm{stage + 1}"
                x = self.layer_norm(x, norm, self.numerics.final_norm_eps, norm)
            if stage < NUM_STAGES - 1 or self.config.features_only:
                x = self.to_map(x, self.config.embed_dims[stage], H, W, f"stage{stage + 1}")
        if self.config.features_only:
            return x
        if self.config.version == 1:
            x = self.layer_norm(x, "norm", self.numerics.final_norm_eps, "norm")
            index = g.constant("index/0", np.array(0, np.int64))
            return g.add("Gather", x, index, name="features", axis=1)
        return self.narrow(g.mean(self.wide(x), 1, self.inner("features")), "features")

    def normalised(self, preprocessing: Preprocessing) -> str:
        """Maps pixels uint8 (B, H, W, C) to images (B, C, H, W), as ``predict`` normalises them."""
        g = self.graph
        mean, std = pixel_mean(preprocessing), pixel_std(preprocessing)
        x = g.add("Cast", INPUT, name="pixel/float32", to=TensorProto.FLOAT)
        x = g.add("Sub", x, g.constant("pixel/mean", mean), name="pixel/centred")
        x = g.add("Div", x, g.constant("pixel/std", std), name="pixel/normalised")
        return g.transpose(x, 0, 3, 1, 2, name=NORMALISED)

    def prepared(self, preprocessing: Preprocessing) -> str:
        """Maps pixels uint8 (B, height, width, C) of any size to images (B, C, H, W)."""
        g = self.graph
        mean, std = (values(preprocessing).reshape(-1, 1, 1) for values in (pixel_mean, pixel_std))
        x = resize_and_crop(g, INPUT, preprocessing)
        x = g.add("Sub", x, g.constant("pixel/mean", mean), name="pixel/centred")
        return g.add("Div", x, g.constant("pixel/std", std), name=NORMALISED)

    def write(
        self,
        preprocessing: Preprocessing | None = None,
        half_ends: bool = False,
        embed: bool = False,
    ) -> None:
        """Writes the whole model, from ``images`` to :func:`pvt_spec.output_names`.

        Args:
            preprocessing: How pixels are normalised, where it takes those.
            half_ends: Whether what goes in, if normalised, and what comes out is float16 too.
            embed: Whether pixels may be of any size, and are resized and cropped too.
        """
        images = INPUT
        if preprocessing:
            images = (self.prepared if embed else self.normalised)(preprocessing)
        if preprocessing or not half_ends:
            images = self.narrow(images, f"{images}/float16")
        x = self.features(images)
        if self.config.num_classes:
            self.linear(x, "head", "logits")
        if self.half and not half_ends:
            for name in output_names(self.config):
                self.graph.rename(name, f"{name}/float16")
                self.graph.add("Cast", f"{name}/float16", name=name, to=TensorProto.FLOAT)
