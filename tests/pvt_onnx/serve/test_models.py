"""What served models take and answer, beside what the library answers of the same files."""

import asyncio
import base64
import io
import threading
import time

import numpy as np
import onnx
import pytest
from PIL import Image

import pvt_onnx
from convert.options import OnnxOptions
from pvt_onnx.engines.options import EngineOptions
from pvt_onnx.serve.batching import Batcher
from pvt_onnx.serve.models import open_served
from pvt_onnx.serve.protocol.messages import BYTES, InferRequest, ProtocolError, Tensor
from pvt_onnx.serve.repository import ModelFile, list_repository, name_files
from pvt_spec.errors import PvtError
from tests.support.messages import naming, tells
from tests.support.models import SMALL
from tests.support.serving.models import picture, save

ONE = EngineOptions(threads=1)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return save(tmp_path_factory.mktemp("served") / "m.onnx")


@pytest.fixture(scope="module")
def model(path):
    return open_served(path, "m", "1", ONE)


def asked(*tensors):
    return InferRequest(tensors)


def encoded(*files):
    return asked(Tensor("image", BYTES, (len(files),), files))


def answers(model, request):
    read = model.read(request)
    images = [part() for part in read.parts]
    assert sum(map(len, images)) == read.count
    found = [model.run(each) for each in images]
    return {name: np.concatenate([each[name] for each in found]) for name in found[0]}


def test_answers_are_the_librarys(path, model):
    files = [picture(n, form=form) for n, form in enumerate(("PNG", "JPEG", "WEBP"))]
    predictor = pvt_onnx.load(path, threads=1)
    images = np.stack([predictor.prepare(Image.open(io.BytesIO(data))) for data in files])
    logits = predictor.logits(images)
    for request in (
        encoded(*files),
        encoded(*(base64.b64encode(data).decode() for data in files)),
        asked(Tensor.of(model.tensor.name, images)),
    ):
        found = answers(model, request)
        assert np.array_equal(found["logits"], logits) or np.allclose(found["logits"], logits, 1e-5)
        assert np.allclose(found["probabilities"].sum(1), 1)
    found = answers(model, InferRequest((), raw=files[0]))
    record = predictor.predict(Image.open(io.BytesIO(files[0])))
    for each in record["classes"]:
        assert found["probabilities"][0, each["index"]] == pytest.approx(each["probability"])


def test_openvino_answers_the_same(path, model):
    other = open_served(path, "m", "1", EngineOptions("openvino", threads=1))
    images = np.random.default_rng(0).normal(size=(2, 3, 32, 32)).astype(np.float32)
    assert np.allclose(other.run(images)["logits"], model.run(images)["logits"], atol=1e-4)
    assert other.metadata(["1"]).platform == "openvino"


def test_what_is_said_of_a_model(model):
    said = model.metadata(["1"]).to_dict()
    assert said == {
        "name": "m",
        "versions": ["1"],
        "platform": "onnxruntime_onnx",
        "inputs": [
            {"name": "images", "datatype": "FP32", "shape": [-1, 3, 32, 32]},
            {"name": "image", "datatype": "BYTES", "shape": [-1]},
        ],
        "outputs": [
            {"name": "logits", "datatype": "FP32", "shape": [-1, 4]},
            {"name": "probabilities", "datatype": "FP32", "shape": [-1, 4]},
        ],
    }


@pytest.mark.parametrize(
    ("onnx_options", "datatype", "shape"),
    [
        (OnnxOptions(uint8=True), "UINT8", (None, 32, 32, 3)),
        (OnnxOptions(embed=True), "UINT8", (None, None, None, 3)),
        (OnnxOptions(dynamic_size=True), "FP32", (None, 3, None, None)),
    ],
)
def test_graphs_are_given_what_they_themselves_take(onnx_options, datatype, shape, tmp_path):
    path = save(tmp_path / "m.onnx", onnx=onnx_options)
    model = open_served(path, "m", "1", ONE)
    assert (model.tensor.datatype, model.tensor.shape) == (datatype, shape)
    model.warm_up(4)
    predictor = pvt_onnx.load(path, threads=1)
    files = [picture(0), picture(1, (60, 33))]
    record = predictor.predict([Image.open(io.BytesIO(data)) for data in files])
    found = answers(model, encoded(*files))
    for row, each in zip(found["probabilities"], record, strict=True):
        for of in each["classes"]:
            assert row[of["index"]] == pytest.approx(of["probability"], abs=1e-6)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    given = pixels if datatype == "UINT8" else np.zeros((2, 3, 32, 32), np.float32)
    assert answers(model, asked(Tensor.of("images", given)))["logits"].shape == (2, 4)


def test_models_without_classes_answer_what_they_have(tmp_path):
    maps = save(tmp_path / "m.onnx", labels=(), num_classes=0, features_only=True)
    model = open_served(maps, "m", "1", ONE)
    found = answers(model, encoded(picture()))
    specs = {each.name: each for each in model.outputs}
    assert found.keys() == specs.keys() and len(specs) == 4
    assert all(array.shape[1] == specs[name].shape[1] for name, array in found.items())
    one = open_served(save(tmp_path / "g.onnx", in_chans=5), "g", "1", ONE)
    assert one.image is None
    with pytest.raises(ProtocolError):
        one.read(InferRequest((), raw=picture()))


@pytest.mark.parametrize(
    ("request_", "facts"),
    [
        (asked(), [0, "images", "image"]),
        (encoded(), ["image"]),
        (encoded(b"no image"), ["image 0"]),
        (encoded(picture(), b""), ["image 1"]),
        (encoded("%%%"), ["base64"]),
        (asked(Tensor("pictures", BYTES, (1,), [b""])), ["pictures", "images", "image"]),
        (asked(Tensor("image", "FP32", (1,), np.ones(1))), ["image", "BYTES", "FP32"]),
        (asked(Tensor.of("images", np.ones((1, 3, 32, 33), np.float32))), [32, 33]),
        (asked(Tensor.of("images", np.ones((0, 3, 32, 32), np.float32))), ["images"]),
        (asked(Tensor.of("images", np.ones((1, 3, 32, 32)))), ["FP32", "FP64"]),
        (asked(*encoded(b"").inputs, *encoded(b"").inputs), [2, "images"]),
    ],
)
def test_what_it_does_not_take_is_said_without_its_path(model, path, request_, facts):
    with pytest.raises(ProtocolError) as caught:
        answers(model, request_)
    assert caught.value.status == 400 and tells(caught.value, *facts), str(caught.value)
    assert str(path.parent) not in str(caught.value)


def test_sizes_that_no_model_takes_are_refused(tmp_path):
    dynamic = open_served(
        save(tmp_path / "m.onnx", onnx=OnnxOptions(dynamic_size=True)), "m", "1", ONE
    )
    for side in (1, 100_000):
        images = np.broadcast_to(np.float32(0), (1, 3, side, 32))
        with pytest.raises(ProtocolError) as caught:
            answers(dynamic, asked(Tensor.of("images", images)))
        assert caught.value.status == 400
    whole = open_served(save(tmp_path / "e.onnx", onnx=OnnxOptions(embed=True)), "e", "1", ONE)
    with pytest.raises(ProtocolError):  # all of it would be resized to 32 x 32 million
        answers(whole, asked(Tensor.of("images", np.zeros((1, 1, 1_000_000, 3), np.uint8))))
    for shape in ((1, 0, 5, 3), (2, 5, 0, 3), (1, 0, 0, 3)):
        with pytest.raises(ProtocolError) as caught:
            answers(whole, asked(Tensor.of("images", np.zeros(shape, np.uint8))))
        assert caught.value.status == 400


def test_an_image_of_too_many_pixels_is_not_decoded(path):
    model = open_served(path, "m", "1", ONE, most_pixels=1999)
    with pytest.raises(ProtocolError) as caught:
        answers(model, encoded(picture()))
    assert tells(caught.value, "image 0", "1,999")


def test_images_that_a_graph_resizes_take_the_room_that_they_have(path, tmp_path):
    whole = open_served(save(tmp_path / "e.onnx", onnx=OnnxOptions(embed=True)), "e", "1", ONE)
    images = whole.read(encoded(picture(), picture(0, (320, 320))))
    assert images.count == 2 and images.room and images.room() == 1 + 1
    photo = io.BytesIO()
    Image.new("RGB", (4000, 3000)).save(photo, "PNG")
    assert whole.read(encoded(photo.getvalue())).room() == 60  # a small model's was over any bound
    assert open_served(path, "m", "1", ONE).read(encoded(picture())).room is None
    large = io.BytesIO()
    Image.new("RGB", (5000, 4000)).save(large, "PNG")
    with pytest.raises(ProtocolError) as caught:
        whole.read(encoded(large.getvalue())).room()
    assert tells(caught.value, "image 0", "16,000,000")


def test_answers_that_depend_on_the_batch_are_known(path, tmp_path):
    model = onnx.load(path)
    assert not open_served(path, "m", "1", ONE).alone
    first = model.graph.node[0].input[0]
    names = ["q", "s", "z"]
    model.graph.node.insert(0, onnx.helper.make_node("DynamicQuantizeLinear", [first], names))
    onnx.save(model, tmp_path / "q.onnx")
    assert open_served(tmp_path / "q.onnx", "q", "1", ONE).alone


def batching(run, work, most=4, **options):
    async def main():
        batcher = Batcher(run, lambda shape: most, **options)
        try:
            return await work(batcher)
        finally:
            await batcher.close()

    return asyncio.run(main())


def doubled(images):
    return {"twice": images * 2}


def test_requests_that_wait_are_answered_together():
    sizes = []

    def run(images):
        time.sleep(0.02)
        return doubled(images)

    async def work(batcher):
        given = [np.full((1 + n % 3, 2), n, np.float32) for n in range(12)]
        found = await asyncio.gather(*(batcher.answer([each]) for each in given))
        for images, answer in zip(given, found, strict=True):
            assert np.array_equal(answer["twice"], images * 2)

    batching(run, work, told=sizes.append)
    assert sum(sizes) == 24 and max(sizes) <= 4 and len(sizes) < 12


def test_a_call_waits_for_more_images_no_longer_than_it_may():
    sizes = []

    async def work(batcher):
        first = asyncio.ensure_future(batcher.answer([np.ones((1, 2))]))
        await asyncio.sleep(0.01)
        await asyncio.gather(first, *(batcher.answer([np.ones((1, 2))]) for _ in range(3)))
        began = time.perf_counter()
        await batcher.answer([np.ones((1, 2))])
        return time.perf_counter() - began

    waited = batching(doubled, work, delay=0.3, told=sizes.append)
    assert sizes == [4, 1] and waited >= 0.25


def test_requests_of_other_shapes_and_those_that_stay_alone_are_calls_of_their_own():
    for options, expected in (({}, [1, 2, 1, 1]), ({"together": False}, [1] * 5)):
        sizes = []  # the first is computed at once, as nothing else waits

        async def work(batcher):
            shapes = [(1, 2), (1, 2), (1, 3), (1, 2), (1, 5)]
            found = await asyncio.gather(*(batcher.answer([np.ones(shape)]) for shape in shapes))
            assert [each["twice"].shape for each in found] == shapes

        batching(doubled, work, told=sizes.append, **options)
        assert sizes == expected


def test_a_request_of_many_images_is_several_calls_in_its_order():
    sizes = []

    async def work(batcher):
        images = np.arange(22.0).reshape(11, 2)
        found = await batcher.answer([images[:9], images[9:]])
        assert np.array_equal(found["twice"], images * 2)

    batching(doubled, work, told=sizes.append)
    assert sizes == [4, 4, 3]


def test_what_fails_fails_alone():
    def run(images):
        if (images == 3).any():
            raise ValueError("three")
        return doubled(images)

    async def work(batcher):
        given = [np.full((1, 2), n) for n in range(5)]
        return await asyncio.gather(*(batcher.answer([x]) for x in given), return_exceptions=True)

    found = batching(run, work)
    assert [isinstance(each, ValueError) for each in found] == [False] * 3 + [True, False]


def test_what_nobody_waits_for_is_not_computed():
    seen, going = [], threading.Event()

    def run(images):
        going.wait(5)
        seen.append(images[0, 0])
        return doubled(images)

    async def work(batcher):
        first = asyncio.ensure_future(batcher.answer([np.full((4, 2), 1)]))
        await asyncio.sleep(0.05)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(batcher.answer([np.full((4, 2), 2)]), 0.05)
        last = asyncio.ensure_future(batcher.answer([np.full((4, 2), 3)]))
        await asyncio.sleep(0)
        going.set()
        await asyncio.gather(first, last)

    batching(run, work)
    assert seen == [1, 3]


@pytest.mark.parametrize("kind", ["v1", "v2", "linear"])
def test_answers_of_a_batch_are_those_alone_within_rounding(kind, tmp_path):
    """Not bit for bit: products of more rows are summed in another order."""
    model = open_served(save(tmp_path / "m.onnx", config=SMALL[kind]), "m", "1", ONE)
    images = np.random.default_rng(0).normal(size=(7, 3, 32, 32)).astype(np.float32)
    alone = np.concatenate([model.run(each[None])["logits"] for each in images])
    together = model.run(images)["logits"]
    scale = np.abs(alone).max()
    assert np.abs(together - alone).max() <= 1e-5 * scale
    assert np.array_equal(model.run(images)["logits"], together)


def test_files_are_called_by_their_names(tmp_path):
    told = []
    files = [tmp_path / name for name in ("a.onnx", "b é.onnx", "other/a.onnx", "a\n.onnx")]
    (tmp_path / "other").mkdir()
    for path in files:
        path.touch()
    found = name_files(files[:2], told.append)
    assert found == [ModelFile("a", "1", files[0]), ModelFile("b é", "1", files[1])]
    with pytest.raises(PvtError, match=naming("a.onnx", "other")):
        name_files(files[:3], told.append)
    with pytest.raises(PvtError, match="rename"):
        name_files(files[3:], told.append)
    with pytest.raises(PvtError, match=naming("none.onnx")):
        name_files([tmp_path / "none.onnx"], told.append)
    with pytest.raises(PvtError, match=naming("other", "--repository")):
        name_files([tmp_path / "other"], told.append)


def test_a_repository_has_names_and_versions(tmp_path):
    for name in ("b/2", "b/10", "a/1"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "model.onnx").touch()
    for name in ("b/config", "b/01", "empty", ".hidden/1"):
        (tmp_path / name).mkdir(parents=True)
    told = []
    found = list_repository(tmp_path, told.append)
    names = [(each.name, each.version) for each in found]
    assert names == [("a", "1"), ("b", "2"), ("b", "10")]
    assert tells(told, "empty") and ".hidden" not in told[0]
    (tmp_path / "c/3").mkdir(parents=True)
    with pytest.raises(PvtError, match=naming("c/3/model.onnx")):
        list_repository(tmp_path, told.append)
    for folder in (tmp_path / "empty", tmp_path / "none"):
        with pytest.raises(PvtError):
            list_repository(folder, told.append)
