"""Served models as tritonclient[http] sees them."""

import asyncio

import numpy as np
import pytest
import tritonclient.http as client
import tritonclient.http.aio as aio
from tritonclient.utils import InferenceServerException

from pvt_onnx.serve.models import open_served
from pvt_onnx.serve.repository import ModelFile
from tests.support.messages import tells
from tests.support.serving.models import LABELS, picture, save
from tests.support.serving.running import ONE, running


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("client")
    return [
        ModelFile("m", "1", save(folder / "m/1/model.onnx")),
        ModelFile("m", "3", save(folder / "m/3/model.onnx", labels=())),
        ModelFile("maps", "1", save(folder / "f/1/model.onnx", labels=(), num_classes=0)),
    ]


@pytest.fixture(scope="module")
def server(files):
    with running(files) as found:
        yield found


@pytest.fixture(scope="module")
def triton(server):
    with client.InferenceServerClient(server.place, concurrency=4) as found:
        yield found


@pytest.fixture(scope="module")
def expected(files):
    """What the model itself answers of images, float32."""
    model = open_served(files[0].path, "m", "1", ONE)
    return lambda images: model.run(images)["logits"]


IMAGES = np.random.default_rng(0).normal(size=(2, 3, 32, 32)).astype(np.float32)


def tensor(images=IMAGES, binary=True):
    given = client.InferInput("images", list(images.shape), "FP32")
    given.set_data_from_numpy(images, binary_data=binary)
    return given


def encoded(*pictures):
    given = client.InferInput("image", [len(pictures)], "BYTES")
    given.set_data_from_numpy(np.array(pictures, object))
    return given


def test_health_metadata_and_index(triton):
    assert triton.is_server_live() and triton.is_server_ready()
    assert triton.is_model_ready("m") and triton.is_model_ready("m", "3")
    assert not triton.is_model_ready("m", "2") and not triton.is_model_ready("n")
    said = triton.get_server_metadata()
    assert {"binary_tensor_data", "classification"} <= {*said["extensions"]}
    said = triton.get_model_metadata("m", "1")
    assert said["versions"] == ["1", "3"] and said["inputs"][0]["shape"] == [-1, 3, 32, 32]
    assert triton.get_model_repository_index() == [
        {"name": name, "version": version, "state": "READY", "reason": ""}
        for name, version in (("m", "1"), ("m", "3"), ("maps", "1"))
    ]


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False, None])
def test_tensors_go_in_and_out(triton, expected, binary_in, binary_out):
    outputs = binary_out is not None and [
        client.InferRequestedOutput("logits", binary_data=binary_out)
    ]
    result = triton.infer(
        "m", [tensor(binary=binary_in)], model_version="1", outputs=outputs or None, request_id="r"
    )
    assert np.array_equal(result.as_numpy("logits"), expected(IMAGES))
    assert result.get_response()["id"] == "r" and result.get_response()["model_version"] == "1"
    shares = result.as_numpy("probabilities")
    assert (shares is None) == (binary_out is not None)


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_compressed_requests(triton, expected, algorithm):
    result = triton.infer(
        "m",
        [tensor()],
        model_version="1",
        request_compression_algorithm=algorithm,
        response_compression_algorithm=algorithm,
    )
    assert np.array_equal(result.as_numpy("logits"), expected(IMAGES))


def test_images_go_in_as_files(triton):
    pictures = [picture(0), picture(1, form="JPEG"), picture(2, (90, 33), "WEBP")]
    result = triton.infer("m", [encoded(*pictures)])
    assert result.as_numpy("logits").shape == (3, 4)
    assert result.get_response()["model_version"] == "3"  # the highest
    for number, each in enumerate(pictures):
        alone = triton.infer("m", [encoded(each)]).as_numpy("logits")
        assert np.allclose(alone[0], result.as_numpy("logits")[number], atol=1e-5)


@pytest.mark.parametrize("binary", [True, False])
def test_classes_are_named_if_they_have_names(triton, binary):
    wanted = client.InferRequestedOutput("probabilities", binary_data=binary, class_count=2)
    for version, names in (("1", LABELS), ("3", "0123")):
        result = triton.infer("m", [tensor()], version, outputs=[wanted])
        rows = result.as_numpy("probabilities")
        assert rows.shape == (2, 2)
        shares = triton.infer("m", [tensor()], version).as_numpy("probabilities")
        for row, share in zip(rows, shares, strict=True):
            found = [
                (each.decode() if isinstance(each, bytes) else each).split(":") for each in row
            ]
            order = np.argsort(-share, kind="stable")[:2]
            assert [int(index) for _, index, _ in found] == order.tolist()
            assert [np.float32(value) for value, *_ in found] == share[order].tolist()
            assert [label for *_, label in found] == [names[n] for n in order]


def test_models_without_classes_answer_features(triton):
    result = triton.infer("maps", [tensor()])
    (output,) = result.get_response()["outputs"]
    assert result.as_numpy(output["name"]).shape == (2, 32)
    with pytest.raises(InferenceServerException, match="classification"):
        wanted = client.InferRequestedOutput(output["name"], class_count=1)
        triton.infer("maps", [tensor()], outputs=[wanted])


@pytest.mark.parametrize(
    ("model", "inputs", "options", "status", "facts"),
    [
        ("none", [tensor()], {}, 404, ["none", "m", "maps"]),
        ("m", [tensor()], {"model_version": "2"}, 404, ["2", "1", "3"]),
        ("m", [tensor(IMAGES[:, :, 1:])], {}, 400, ["images", 31]),
        ("m", [encoded(b"no image")], {}, 400, ["image 0"]),
        ("m", [tensor(), encoded(b"")], {}, 400, ["images", "image"]),
        ("m", [tensor()], {"outputs": [client.InferRequestedOutput("logit")]}, 400, ["logit"]),
        ("m", [tensor()], {"sequence_id": 3}, 400, ["sequence_id"]),
        ("m", [tensor()], {"priority": 1}, 400, ["priority"]),
        ("m", [tensor()], {"timeout": 1}, 503, ["1e-06"]),
    ],
)
def test_errors_say_what_is_wrong(triton, model, inputs, options, status, facts):
    with pytest.raises(InferenceServerException) as caught:
        triton.infer(model, inputs, **options)
    assert caught.value.status() == str(status)
    assert tells(caught.value.message(), *facts), caught.value.message()


def test_many_at_a_time_get_the_answers_of_each(triton, expected):
    pending = [
        triton.async_infer("m", [tensor(np.full((1, 3, 32, 32), n, np.float32))], "1")
        for n in range(24)
    ]
    for number, each in enumerate(pending):
        found = each.get_result().as_numpy("logits")
        alone = expected(np.full((1, 3, 32, 32), number, np.float32))
        assert np.allclose(found, alone, rtol=1e-5, atol=1e-5)


def test_asyncio(server, expected):
    async def main():
        async with aio.InferenceServerClient(server.place) as triton:
            assert await triton.is_server_ready() and await triton.is_model_ready("m")
            assert (await triton.get_model_metadata("m"))["name"] == "m"
            assert len(await triton.get_model_repository_index()) == 3
            with pytest.raises(InferenceServerException):
                await triton.infer("m", [encoded(b"")])
            return await asyncio.gather(
                *(triton.infer("m", [tensor(binary=n % 2 == 0)], "1") for n in range(8))
            )

    for result in asyncio.run(main()):
        assert np.allclose(result.as_numpy("logits"), expected(IMAGES), rtol=1e-5, atol=1e-5)


def test_models_are_never_loaded_by_a_request(triton):
    for act in (triton.load_model, triton.unload_model):
        with pytest.raises(InferenceServerException) as caught:
            act("m")
        assert caught.value.status() == "404"
