"""Hostile descriptions of a model: our own in each carrier, and configurations of every dialect.

A file begins with a line that says its role (``config.json``, ``labels.json``), which the commands
put in its place beside good files; damage is done to what follows.
"""

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import click
from hypothesis import strategies as st

from convert.command_line import main as convert
from convert.formats import ckpt, safetensors as safetensors_file
from convert.formats.pth import file as pth
from convert.model.write import save_model
from pvt_data.command_line import Commands
from pvt_spec import METADATA_KEY
from tests.support.fuzzing import damage_json, damage_messages
from tests.support.fuzzing.commands import Command, Program
from tests.support.fuzzing.damage_bytes import Draw, chosen, damaged_bytes, several
from tests.support.fuzzing.inputs import NOISE, Input
from tests.support.fuzzing.seeds import Seed
from tests.support.models import SMALL, info_of, random_weights

CONFIG = SMALL["v2"]
LABELS = tuple(f"class {number}" for number in range(CONFIG.num_classes))

HOSTILE = ("1e308", "-1", "0", "1e-320", "2.5", "1000000000", "9" * 400, '"\\u001b[2J"', "[]", "{}")
HOSTILE += ("[[[[1]]]]", '"' + "a" * 60_000 + '"', "true", "null", "[1,2,3,4]", '"\\ud800"', "NaN")
HOSTILE += ("[" + "1," * 5000 + "1]", "1e9999", "-Infinity", '"224"', "4294967296", '{"0":"a"}')


def _damaged_json(draw: Draw, seed: Seed) -> tuple[bytes, list[str]]:
    value = damage_json.parse_json(seed.data)
    done = []
    for _ in range(several(draw, 1, 3)):
        spots = damage_json._json_places(value) if isinstance(value, list) else []
        if spots and draw(st.booleans()):
            parent, at = chosen(draw, spots)
            parent[at] = damage_json.Raw(chosen(draw, HOSTILE))
            done.append("json: hostile")
        elif isinstance(value, damage_json.Pairs):
            done.append(damage_json.damage_json(draw, value))
    return damage_json.encode_json(value).encode(errors="surrogatepass"), done


@st.composite
def _texts(draw: Draw, seeds: Sequence[tuple[str, Seed]]) -> Input:
    role, seed = chosen(draw, seeds)
    start = role.encode() + b"\n"
    if chosen(draw, range(32)) == 31:
        return Input(start + draw(st.binary(max_size=200)), NOISE, ("noise",))
    data, done = seed.data, []
    if seed.data[:1] in b"{[" and chosen(draw, (True, True, True, False)):
        data, done = _damaged_json(draw, seed)
    for _ in range(chosen(draw, (0, 0, 0, 1) if done else (0, 1, 1, 2, 3))):
        data = damaged_bytes(draw, data)
        done.append("bytes")
    return Input(start + data, seed, tuple(done))


def _role_and_rest(path: Path) -> tuple[str, bytes]:
    role, _, rest = path.read_bytes().partition(b"\n")
    return role.decode(), rest


# Our own description


def _info_seeds() -> list[tuple[str, Seed]]:
    infos = {profile: info_of(CONFIG, profile) for profile in ("official", "mindcv", "hf")}
    infos["v1"] = info_of(SMALL["v1"])
    texts = {kind: info.to_json().encode() for kind, info in infos.items()}
    return [("info", Seed(kind, text)) for kind, text in texts.items()]


@cache
def _model() -> tuple[Any, bytes]:
    """The weights of a small model, and the bytes of its ``.onnx``."""
    import tempfile

    weights = random_weights(CONFIG)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.onnx"
        save_model(path, weights, info_of(CONFIG))
        return weights, path.read_bytes()


def _carry(path: Path, text: str) -> None:
    """Writes a good model with this for its description."""
    weights, model = _model()
    if path.suffix == ".onnx":
        fields = damage_messages.parse_message(model, {14: {}})
        for field in fields:
            if field.number == 14 and field.value[0].value == METADATA_KEY.encode():
                field.value[1].value = text.encode()
        path.write_bytes(damage_messages.encode_message(fields))
        return
    module: Any = {".ckpt": ckpt, ".pth": pth, ".safetensors": safetensors_file}[path.suffix]
    with path.open("wb") as stream:
        module.write(stream, weights, {METADATA_KEY: text.rstrip("\0")})


def _carried(suffix: str, *words: str) -> Command:
    def command(path: Path, folder: Path) -> tuple[Any, Sequence[object]]:
        text = _role_and_rest(path)[1].decode(errors="replace")
        _carry(carrier := folder / f"carrier{suffix}", text)
        if words:
            return convert, [*words, carrier]
        return convert, [carrier, folder / "out" / "a.safetensors", "--force"]

    return command


def _prepare(folder: Path) -> None:
    (folder / "out").mkdir(exist_ok=True)
    for suffix in (".ckpt", ".pth", ".safetensors", ".onnx"):
        (folder / f"carrier{suffix}").touch()


INFO = Program(
    "hostile-info.json",
    _prepare,
    lambda: _texts(_info_seeds()),
    (
        _carried(".ckpt", "inspect"),
        _carried(".ckpt"),
        _carried(".pth", "inspect", "--json"),
        _carried(".pth"),
        _carried(".safetensors", "inspect"),
        _carried(".safetensors", "inspect", "--json"),
        _carried(".onnx", "inspect"),
        _carried(".onnx"),
    ),
)
"""Descriptions of models in the metadata of every format."""


# Configurations of other people's code


TIMM = {
    "architecture": "pvt_v2_b0",
    "num_classes": 7,
    "num_features": 256,
    "label_names": list(LABELS),
    "pretrained_cfg": {
        "tag": "in1k",
        "input_size": [3, 64, 96],
        "crop_pct": 0.9,
        "crop_mode": "center",
        "interpolation": "bicubic",
        "mean": [0.5, 0.4, 0.3],
        "std": [0.2, 0.2, 0.2],
        "num_classes": 7,
    },
}
CONVNEXT = {
    "image_processor_type": "ConvNextImageProcessor",
    "size": {"shortest_edge": 224},
    "crop_pct": 0.875,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
    "rescale_factor": 0.00392156862745098,
    "do_resize": True,
    "resample": 3,
}
RECIPE = """
model: pvt_v2_b0
batch_size: 8
epoch_size: 2
lr: 1e-3
weight_decay: 0.05
mean: [123.675, 116.28, 103.53]
std: &std [58.395, 57.12, 57.375]
crop_pct: 0.9
freeze: ["block1.*"]
scheduler: cosine_decay
ema: False
image_resize: 224
num_classes: 10
loss_scale: 1024.0
"""
YAML = (b"&a [*a]", b"!!python/object:os.system x", b"0x" + b"f" * 9000, b"2020-99-99", b"[" * 3000)
YAML += (b"<<: *std", b"? [a]\n: b", b"1:1:1:99999", b".nan", b"*std", b"*none", b"{a: " * 900)
YAML += (b"key%d: 1\n" * 3000, b"!!binary x", b"=", b"\x1b[2J", b"|\n  a", b"---\n", b"%YAML 9\n")


@cache
def _good_hub() -> dict[str, bytes]:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        hub = Path(folder) / "hub"
        save_model(hub, random_weights(CONFIG), info_of(CONFIG, "hf"))
        names = ("config.json", "preprocessor_config.json", "model.safetensors")
        return {name: (hub / name).read_bytes() for name in names}


@cache
def _config_seeds() -> list[tuple[str, Seed]]:
    hub = _good_hub()
    first = {"model_type": "pvt", "id2label": {str(i): name for i, name in enumerate(LABELS)}}
    first |= {"label2id": {}, "image_size": 64, "architectures": ["PvtForImageClassification"]}
    index = {"weight_map": dict.fromkeys(random_weights(CONFIG), "model.safetensors")}
    numbered = {str(number): ["n0", name] for number, name in enumerate(LABELS)}
    json_texts = [
        ("config.json", "hf v1", first),
        ("config.json", "timm", TIMM),
        ("preprocessor_config.json", "convnext", CONVNEXT),
        ("model.safetensors.index.json", "index", {"metadata": {"total_size": 1}, **index}),
        ("labels.json", "list", list(LABELS)),
        ("labels.json", "numbered", numbered),
        ("labels.json", "by name", {name: number for number, name in enumerate(LABELS)}),
    ]
    return [
        ("config.json", Seed("hf v2", hub["config.json"])),
        ("config.json", Seed("hf v2", hub["config.json"])),
        ("preprocessor_config.json", Seed("ours", hub["preprocessor_config.json"])),
        *((role, Seed(name, json.dumps(value).encode())) for role, name, value in json_texts),
        ("labels.txt", Seed("text", "\n".join(LABELS).encode())),
        ("recipe.yaml", Seed("recipe", RECIPE.encode())),
    ]


@st.composite
def _config_files(draw: Draw) -> Input:
    made = draw(_texts(_config_seeds()))
    if not made.data.startswith(b"recipe") or draw(st.booleans()):
        return made
    lines = RECIPE.encode().splitlines()
    for _ in range(several(draw, 1, 3)):
        at, hostile = several(draw, 0, len(lines) - 1), chosen(draw, YAML)
        lines[at] = (
            lines[at].partition(b":")[0] + b": " + hostile if draw(st.booleans()) else hostile
        )
    return Input(b"recipe.yaml\n" + b"\n".join(lines), made.seed, ("yaml",))


@click.group(cls=Commands)
def recipes() -> None:
    """Stands for ``pvt-ms train``, which needs MindSpore and images."""


@recipes.command()
@click.argument("file", type=click.Path(path_type=Path))
def read(file: Path) -> None:
    """Reads a recipe as training does."""
    from pvt_train.recipe.checks import recipe_warnings
    from pvt_train.recipe.read import make_recipe, read_values

    values = read_values(file, {})
    for line in recipe_warnings(make_recipe(values, str(file)), values):
        click.echo(line)


def _configured(*words: str) -> Command:
    def command(path: Path, folder: Path) -> tuple[Any, Sequence[object]]:
        role, rest = _role_and_rest(path)
        hub = folder / "hub"
        for each in hub.iterdir():
            each.unlink()
        files = {**_good_hub(), role: rest}
        if role.startswith("model.safetensors.index"):
            files["other.safetensors"] = files.pop("model.safetensors")
        for name, data in files.items():
            (hub / name).write_bytes(data)
        if role == "recipe.yaml":
            return recipes, ["read", hub / role]
        out = folder / "out" / "a.onnx"
        labels = ["--labels", hub / role] if role.startswith("labels") else []
        if labels or not words:
            return convert, [hub, out, "--force", *labels]
        return convert, [*words, hub]

    return command


def _prepare_hub(folder: Path) -> None:
    for name in ("hub", "out"):
        (folder / name).mkdir(exist_ok=True)


CONFIGURATIONS = Program(
    "hostile-config.txt",
    _prepare_hub,
    _config_files,
    (_configured("inspect"), _configured("inspect", "--json"), _configured()),
)
"""Configurations of every dialect, beside good weights; labels; recipes."""
