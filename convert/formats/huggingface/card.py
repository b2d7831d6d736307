"""The model card of a folder of Hugging Face: ``README.md``, for people and for the hub.

Its first lines are YAML, of which JSON is a part: the hub reads licence, task and results from
them. Nothing is in it that is not known. Keys: the hub's documentation of model cards.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from convert.certificates.record import CertificateFile
from convert.formats.huggingface.config import make_config
from pvt_data.sources.imagenet import imagenet_names
from pvt_packages import suite_version
from pvt_spec import METADATA_KEY, ModelInfo, tensor_specs
from pvt_spec.files.json_text import encode_json
from pvt_spec.words import printable

CARD = "README.md"

IMAGENET = "imagenet-1k"
"""What the hub calls ImageNet's 1,000 classes."""

_LICENCE, HUB = "licence", "hub"
"""The keys of a provenance that :mod:`convert.hub` has for published weights."""


@dataclass(frozen=True)
class Reported:
    """An accuracy that somebody reports of weights.

    Attributes:
        top1: Percent of ImageNet's validation images.
        address: Where it is reported; "" where that is not known.
    """

    top1: float
    address: str


@dataclass(frozen=True)
class Known:
    """What is known of a model that does not travel with its weights.

    Attributes:
        certificate: The certificate that it is stamped with.
        reported: Its accuracy, where one is reported.
    """

    certificate: CertificateFile | None = None
    reported: Reported | None = None


def make_card(info: ModelInfo, known: Known = Known()) -> str:
    """Returns the card of a model in Markdown.

    Args:
        info: What travels with its weights.
        known: What else is known of it.
    """
    reported = known.reported
    name = info.variant or f"pvt_v{info.config.version}"
    head = [f"{key}: {encode_json(value)}" for key, value in _metadata(info, name, reported)]
    sections = (
        [f"# {name}", "", _summary(info)],
        ["## Use", "", *_use(info)],
        ["## Evaluation", "", _evaluation(reported, "top1" in info.provenance)],
        ["## How it was made", "", *_made(info)],
        ["## How it was proved", "", *_proved(known.certificate)],
        ["## Licence", "", _licence(info)],
    )
    lines = ["---", *head, "---", *(line for each in sections for line in ("", *each))]
    return "\n".join(lines) + "\n"


def _metadata(info: ModelInfo, name: str, reported: Reported | None) -> Iterator[tuple[str, Any]]:
    yield "library_name", "transformers"
    yield "pipeline_tag", _task(info)
    yield "tags", ["pvt", "pyramid-vision-transformer", "vision", "pvt-twins"]
    if licence := info.provenance.get(_LICENCE):
        yield "license", licence.lower()
    if reported or info.labels == imagenet_names():
        yield "datasets", [IMAGENET]
    if reported:
        source = {"source": {"name": "reported by its authors", "url": reported.address}}
        result = {
            "task": {"type": _task(info)},
            "dataset": {"type": IMAGENET, "name": "ImageNet-1K", "split": "validation"},
            "metrics": [{"type": "accuracy", "name": "Top-1, as reported", "value": reported.top1}],
            **(source if reported.address else {}),
        }
        yield "model-index", [{"name": name, "results": [result]}]


def _task(info: ModelInfo) -> str:
    return "image-classification" if info.config.num_classes else "image-feature-extraction"


def _summary(info: ModelInfo) -> str:
    config = info.config
    H, W = info.preprocessing.image_size
    parameters = sum(spec.size for spec in tensor_specs(config))
    answers = f"{config.num_classes:,} classes" if config.num_classes else "features"
    kind = f"PVT v2{' Li' if config.linear else ''}" if config.version == 2 else "PVT"
    return (
        f"A Pyramid Vision Transformer ({kind}): {parameters:,} parameters, images of {H}x{W} "
        f"pixels, {answers}. Its maths is that of profile `{info.profile}`."
    )


def _use(info: ModelInfo) -> list[str]:
    kind = make_config(info)["architectures"][0]
    return [
        "```python",
        f"from transformers import AutoImageProcessor, {kind}",
        "",
        'processor = AutoImageProcessor.from_pretrained("FOLDER", backend="pil")',
        f'model = {kind}.from_pretrained("FOLDER")',
        "```",
    ]


def _evaluation(reported: Reported | None, measured: bool) -> str:
    if reported is None:
        if measured:
            return "What their training measured is below; nothing else is known of these weights."
        return "No accuracy is known of these weights."
    where = f", at {reported.address}" if reported.address else ""
    return (
        f"Top-1 {reported.top1:g} % on ImageNet's validation images, as their authors report it"
        f"{where}. It was not measured again here."
    )


def _made(info: ModelInfo) -> Iterator[str]:
    yield (
        f"Written by `convert` of {suite_version()}; `{METADATA_KEY}` in the metadata of "
        "`model.safetensors` holds the maths, how images are prepared, and a hash of every weight. "
        "Where the weights are from, as their file says:"
    )
    yield ""
    for name, value in info.provenance.items():
        yield f"- {_plain(name)}: `{_plain(value)}`"
    if not info.provenance:
        yield "- it does not say"


def _proved(read: CertificateFile | None) -> Iterator[str]:
    if read is None:
        yield "No certificate was given. This makes one, and holds the folder against it:"
        yield ""
        yield from _shell("parity certify FOLDER -o port.json", "parity verify port.json FOLDER")
        return
    claim = read.certificate.claim
    yield (
        f"Every intermediate result of it was compared with PyTorch in float64 on "
        f"{len(claim.inputs.images)} images, in units of what rounding alone does "
        f"({claim.suite}, {read.certificate.measured.when}):"
    )
    yield ""
    for ruling, figures in zip(claim.runtimes, read.certificate.measured.runtimes, strict=True):
        words = figures.verdict.removeprefix(f"{ruling.runtime}: ")
        file = claim.files[ruling.file].name
        yield f"- {_plain(ruling.runtime)}, {_plain(file)}: {_plain(words)}"
    yield ""
    yield f"The certificate's SHA-256 is `{read.sha256}`. To hold this folder against it:"
    yield ""
    yield from _shell(f"parity verify {_plain(read.path.name)} FOLDER")


def _shell(*lines: str) -> list[str]:
    return ["```sh", *lines, "```"]


def _licence(info: ModelInfo) -> str:
    licence = info.provenance.get(_LICENCE)
    if licence:
        return f"{_plain(licence)}, as the weights' source says."
    return "Not known: the weights' file says nothing of it. Add `license` above before publishing."


def _plain(text: str) -> str:
    """Returns a text from outside on one line, which neither ends a span of code nor is markup."""
    text = printable(text).replace("`", "'").replace("<", "(").replace(">", ")")
    return text.replace("](", "] (")  # a link, or an image that is fetched from where it says
