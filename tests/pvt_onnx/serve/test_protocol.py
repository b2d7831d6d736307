"""The protocol without sockets: against the bytes of its best-known client, and any at all."""

import gzip
import json
import struct
import zlib

import numpy as np
import pytest
from hypothesis import example, given, settings, strategies as st
from hypothesis.extra import numpy as arrays
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput

from pvt_onnx.serve.protocol.answers import (
    check_wanted,
    choose_outputs,
    largest,
    write_answer,
    write_error,
)
from pvt_onnx.serve.protocol.messages import (
    BYTES,
    DATATYPES,
    HEADER_LENGTH,
    InferAnswer,
    ProtocolError,
    Tensor,
    TensorSpec,
    Wanted,
)
from pvt_onnx.serve.protocol.requests import CONTENT_TYPES, read_request
from pvt_spec.files import limits
from tests.support.messages import tells

SHAPES = arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)
FINITE = {"allow_nan": False, "allow_infinity": False}


def values(datatype, **given):
    dtype = DATATYPES[datatype].newbyteorder("=")
    if dtype.kind in "ui":  # JSON has integers of 64 bits with a sign
        info = np.iinfo(dtype)
        elements = st.integers(int(info.min), min(int(info.max), (1 << 63) - 1))
        return arrays.arrays(dtype, SHAPES, elements=elements)
    return arrays.arrays(dtype, SHAPES, elements=given if dtype.kind == "f" else None)


def asking(array, datatype, binary, **given):
    """The body and header of the client, for one input."""
    tensor = InferInput("x", list(array.shape), datatype)
    tensor.set_data_from_numpy(array, binary_data=binary)
    body, length = InferenceServerClient.generate_request_body([tensor], **given)
    return body, {} if length is None else {HEADER_LENGTH: str(length)}


def answered(answer):
    """What the client makes of an answer."""
    body, headers = write_answer(answer)
    length = headers.get(HEADER_LENGTH)
    return InferenceServerClient.parse_response_body(
        body, header_length=None if length is None else int(length)
    )


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("datatype", DATATYPES)
@settings(max_examples=8)
@given(data=st.data())
def test_numbers_of_the_client_are_read_bit_for_bit(datatype, binary, data):
    array = data.draw(values(datatype, **({} if binary else FINITE)))
    body, headers = asking(array, datatype, binary)
    request = read_request(body, headers)
    (read,) = request.inputs
    assert (read.name, read.datatype, read.shape) == ("x", datatype, array.shape)
    assert read.data.dtype == array.dtype and read.data.shape == array.shape
    assert read.data.tobytes() == array.tobytes()
    assert request.binary and not request.outputs  # as the client asks where it says nothing


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("datatype", DATATYPES)
@settings(max_examples=8)
@given(data=st.data())
def test_the_client_reads_numbers_of_answers_bit_for_bit(datatype, binary, data):
    array = data.draw(values(datatype, **({} if binary else FINITE)))
    outputs = [(Tensor.of("y", array), binary), (Tensor.of("z", array), not binary)][: 1 + binary]
    if binary and array.dtype.kind == "f" and not np.isfinite(array).all():
        del outputs[1]
    result = answered(InferAnswer("m", "1", outputs, "a"))
    for tensor, _ in outputs:
        found = result.as_numpy(tensor.name)
        assert found.dtype == array.dtype and found.shape == array.shape
        assert found.tobytes() == array.tobytes()
    head = result.get_response()
    assert (head["model_name"], head["model_version"], head["id"]) == ("m", "1", "a")


@given(st.lists(st.binary(max_size=20), max_size=5))
def test_bytes_go_in_and_out(texts):
    body, headers = asking(np.array(texts, object), BYTES, True)
    (read,) = read_request(body, headers).inputs
    assert read.data == texts and read.shape == (len(texts),)
    found = answered(InferAnswer("m", "1", [(Tensor("y", BYTES, (len(texts),), texts), True)]))
    assert found.as_numpy("y").tolist() == texts


@pytest.mark.long
@given(st.lists(st.text(max_size=9), max_size=5))
def test_texts_go_in_and_out_as_json(texts):
    body, headers = asking(np.array(texts, object), BYTES, False)
    (read,) = read_request(body, headers).inputs
    assert [*read.data] == texts
    found = answered(InferAnswer("m", "1", [(Tensor("y", BYTES, (len(texts),), texts), False)]))
    assert found.as_numpy("y").tolist() == texts


@given(values("INT16"))
def test_lists_within_lists_are_as_good(array):
    row = {"name": "x", "datatype": "INT16", "shape": [*array.shape], "data": array.tolist()}
    if not array.shape:
        row["data"] = [row["data"]]
    (read,) = read_request(json.dumps({"inputs": [row]}).encode(), {}).inputs
    assert np.array_equal(read.data, array)


def test_what_is_asked_of_outputs_and_of_time_is_read():
    wanted = [
        InferRequestedOutput("a", binary_data=False),
        InferRequestedOutput("b", binary_data=True, class_count=3),
    ]
    body, headers = asking(
        np.zeros(2, np.float32), "FP32", True, outputs=wanted, request_id="me", timeout=50
    )
    request = read_request(body, headers)
    assert request.outputs == (Wanted("a", False), Wanted("b", True, 3))
    assert (request.id, request.timeout, request.binary) == ("me", 50, False)


@pytest.mark.parametrize(
    ("encoding", "compress"), [("gzip", gzip.compress), ("deflate", zlib.compress)]
)
def test_compressed_bodies_are_read_up_to_the_limit(encoding, compress):
    body, headers = asking(np.zeros((4, 1000), np.float32), "FP32", True)
    headers["content-encoding"] = encoding
    assert read_request(compress(body), headers).inputs[0].shape == (4, 1000)
    for packed, most, status in (
        (compress(body), 1000, 413),
        (compress(bytes(1 << 22)), 1 << 20, 413),
        (compress(body)[:-9], 1 << 20, 400),
        (compress(body) + b"x", 1 << 20, 400),
        (b"no " + body, 1 << 20, 400),
    ):
        with pytest.raises(ProtocolError) as caught:
            read_request(packed, headers, most)
        assert caught.value.status == status


ROW = {"name": "x", "datatype": "FP32", "shape": [2], "data": [1, 2]}
INPUT = {"inputs": [ROW]}


def changed(**fields):
    return {"inputs": [{**ROW, **fields}]}


def without(name):
    return {"inputs": [{key: value for key, value in ROW.items() if key != name}]}


@pytest.mark.parametrize(
    ("asked", "facts"),
    [
        ([], ["object"]),
        ({}, ["inputs"]),
        ({"inputs": {}}, ["inputs", "list"]),
        ({"inputs": [3]}, ["inputs", "3"]),
        ({"inputs": [ROW, ROW]}, ["x", "once"]),
        ({"inputs": [{**ROW, "name": str(n)} for n in range(99)]}, [99]),
        (without("name"), ["name"]),
        (without("datatype"), ["datatype"]),
        (without("shape"), ["shape"]),
        (without("data"), ["data"]),
        (changed(name="x" * 501), [501, 500]),
        (changed(datatype="FP31"), ["FP31", "FP32"]),
        (changed(shape=[2.0]), ["2.0"]),
        (changed(shape=[-2]), [-2]),
        (changed(shape=[True, 2]), ["True"]),
        (changed(shape=[1 << 62] * 32), [2]),
        (changed(shape=[1] * 33), [32]),
        (changed(shape=[3]), [2, 3]),
        (changed(data=3), ["data", 3]),
        (changed(data=[1, "2"]), ["FP32", "str"]),
        (changed(data=[1, True]), ["FP32", "bool"]),
        (changed(data=[1, None]), ["FP32", "NoneType"]),
        (changed(data=[1, 1e39]), ["FP32"]),
        (changed(data=[[1, 2]]), ["nested"]),
        (changed(shape=[2, 1], data=[[1], [2, 3]]), ["nested"]),
        (changed(shape=[2, 1], data=[[1], 2]), ["nested"]),
        (changed(datatype="UINT8", data=[1, 256]), ["UINT8"]),
        (changed(datatype="UINT8", data=[-1, 2]), ["UINT8"]),
        (changed(datatype="INT32", data=[1, 2.5]), ["INT32", "float"]),
        (changed(datatype="BOOL", data=[0, 1]), ["BOOL", "int"]),
        (changed(datatype="BYTES", data=[0, 1]), ["BYTES"]),
        (changed(datatype="BYTES", shape=[1 << 40]), [1 << 40]),
        (changed(parameters={"binary_data_size": 8}), [8, 0]),
        (changed(parameters={"shared_memory_region": "r"}), ["shared_memory_region"]),
        (changed(parameters=[]), ["parameters"]),
        ({**INPUT, "parameters": {"sequence_id": 1}}, ["sequence_id"]),
        ({**INPUT, "parameters": {"priority": 1}}, ["priority"]),
        ({**INPUT, "parameters": {"timeout": -1}}, ["timeout", -1]),
        ({**INPUT, "parameters": {"timeout": "soon"}}, ["timeout", "soon"]),
        ({**INPUT, "id": 7}, ["id", 7]),
        ({**INPUT, "id": "i" * 300}, ["id", 300]),
        ({**INPUT, "outputs": [{}]}, ["name"]),
        ({**INPUT, "outputs": [{"name": "y", "parameters": {"classification": -1}}]}, [-1]),
        ({**INPUT, "outputs": [{"name": "y", "parameters": {"binary_data": 1}}]}, ["binary_data"]),
    ],
)
def test_what_is_wrong_is_said(asked, facts):
    with pytest.raises(ProtocolError) as caught:
        read_request(json.dumps(asked).encode(), {})
    assert caught.value.status == 400
    assert tells(caught.value, *facts), str(caught.value)


def head(**fields):
    return json.dumps(changed(**{"data": 0, **fields})).replace(', "data": 0', "").encode()


@pytest.mark.parametrize(
    ("body", "length"),
    [
        (b"", None),
        (b"{", None),
        (b'{"inputs": NaN}', None),
        (b'{"id": "a", "id": "a"}', None),
        (b"[" * 100_000, None),
        (b"\xff", None),
        (json.dumps(INPUT).encode(), "1e3"),
        (json.dumps(INPUT).encode(), "-1"),
        (json.dumps(INPUT).encode(), "9" * 5000),
        (json.dumps(INPUT).encode() + b"more", str(len(json.dumps(INPUT)))),
        (head(parameters={"binary_data_size": 7}) + bytes(7), "H"),
        (head(parameters={"binary_data_size": -8}) + bytes(8), "H"),
        (head(parameters={"binary_data_size": 9}) + bytes(8), "H"),
        (head(parameters={"binary_data_size": 8}, data=[1, 2]) + bytes(8), "H"),
        (head(datatype=BYTES, parameters={"binary_data_size": 8}) + b"\xff" * 8, "H"),
        (head(datatype=BYTES, parameters={"binary_data_size": 7}) + bytes(7), "H"),
        (head(datatype=BYTES, parameters={"binary_data_size": 12}) + bytes(12), "H"),
        (head(datatype=BYTES, parameters={"binary_data_size": 4}) + bytes(4), "H"),
    ],
)
def test_bodies_that_are_none_are_refused(body, length):
    headers = (
        {} if length is None else {HEADER_LENGTH: length.replace("H", str(body.rfind(b"}") + 1))}
    )
    with pytest.raises(ProtocolError) as caught:
        read_request(body, headers)
    assert caught.value.status == 400


def test_a_body_of_nothing_but_a_tensor_is_kept_whole():
    assert read_request(b"\xff\xd8", {HEADER_LENGTH: "0"}).raw == b"\xff\xd8"


def test_what_a_body_may_be_called():
    body = json.dumps(INPUT).encode()
    for kind in (*CONTENT_TYPES, "Application/JSON; charset=utf-8", ""):
        assert read_request(body, {"content-type": kind}).inputs
    for headers in ({"content-type": "multipart/form-data"}, {"content-encoding": "br"}):
        with pytest.raises(ProtocolError) as caught:
            read_request(body, headers)
        assert caught.value.status == 415


@pytest.mark.parametrize(
    "headers",
    [{}, {"content-type": "image/png"}, {"content-type": "application/octet-stream"}],
    ids=str,
)
def test_who_sends_an_image_as_it_is_is_told_of_the_header_for_that(headers):
    with pytest.raises(ProtocolError) as caught:
        read_request(b"\x89PNG\r\n", headers)
    assert f"{HEADER_LENGTH}: 0" in str(caught.value)


def test_a_body_of_nothing_is_not_called_json():
    with pytest.raises(ProtocolError, match="empty"):
        read_request(b"", {HEADER_LENGTH: "0"})


def test_json_of_no_bounds_is_refused():
    with pytest.raises(ProtocolError) as caught:
        read_request(b"[" + b"[],[]," * limits.MAX_REQUEST_VALUES + b"0]", {})
    assert tells(caught.value, limits.MAX_REQUEST_VALUES)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(
        [*DATATYPES, BYTES, "inputs", "outputs", "data", "shape", "name", "parameters"]
    ),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(["inputs", "outputs", "data", "shape", "name", "datatype", "parameters",
                         "id", "binary_data_size", "classification", "binary_data", "timeout"]),
        inner, max_size=4,
    ),
    max_leaves=12,
)  # fmt: skip


@settings(max_examples=150)
@given(JSON, st.binary(max_size=12), st.none() | st.integers(-1, 60) | st.text(max_size=4))
@example({}, b"", "0")
def test_any_body_is_a_request_or_one_error(value, more, length):
    """What hypothesis makes of the words that the protocol has."""
    body = json.dumps(value).encode() + more
    try:
        read_request(body, {} if length is None else {HEADER_LENGTH: str(length)})
    except ProtocolError as error:
        assert error.status == 400 and len(str(error)) < 2000
        json.loads(write_error(error)[0])


@settings(max_examples=150)
@given(st.data())
def test_a_damaged_request_is_a_request_or_one_error(data):
    """What is left of a good one where some of its bytes are others, or gone."""
    texts = [b"\xff\xd8", b"", b"abc"]
    image, number = InferInput("image", [3], BYTES), InferInput("x", [2, 2], "FP32")
    image.set_data_from_numpy(np.array(texts, object))
    number.set_data_from_numpy(np.ones((2, 2), np.float32))
    body, length = InferenceServerClient.generate_request_body([image, number])
    damaged = bytearray(body)
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(damaged) - 1))
        damaged[place : place + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    length += data.draw(st.integers(-2, 2))
    try:
        request = read_request(bytes(damaged), {HEADER_LENGTH: str(length)})
    except ProtocolError as error:
        assert error.status == 400
    else:
        for tensor in request.inputs:
            assert len(tensor.data) == (tensor.shape or [1])[0] or tensor.datatype == BYTES


def test_numbers_without_words_in_json_go_out_as_bytes_alone():
    tensor = Tensor.of("y", np.array([np.nan, np.inf], np.float32))
    assert answered(InferAnswer("m", "1", [(tensor, True)])).as_numpy("y")[1] == np.inf
    with pytest.raises(ProtocolError) as caught:
        write_answer(InferAnswer("m", "1", [(tensor, False)]))
    assert caught.value.status == 400 and tells(caught.value, "y")


def test_no_class_is_that_of_nan():
    """It was the first, as ``nan:0:cat``."""
    with pytest.raises(ProtocolError) as caught:
        largest("logits", np.array([[1, np.nan, 2]], np.float32), 2, str)
    assert caught.value.status == 400 and tells(caught.value, "logits", "NaN")


def test_classes_are_value_index_and_label():
    logits = np.array([[0.1, 3, 2], [5, 5, -1e-9]], np.float32)
    tensor = largest("logits", logits, 2, ["cat:s", "dog", "ant"].__getitem__)
    assert tensor.datatype == BYTES and tensor.shape == (2, 2)
    assert [*tensor.data] == ["3.0:1:dog", "2.0:2:ant", "5.0:0:cat:s", "5.0:1:dog"]
    assert largest("logits", logits, 9, str).shape == (2, 3)


@given(arrays.arrays(np.float32, (2, 5), elements=FINITE))
def test_a_value_beside_a_class_is_the_same_float32(logits):
    for text in largest("logits", logits, 5, str).data:
        value, index, _ = text.split(":")
        assert np.float32(value) in logits[:, int(index)]


def test_outputs_are_chosen_by_name_or_all():
    answers = {"logits": np.ones((1, 3), np.float32), "more": np.zeros((1, 2), np.float32)}
    everything = choose_outputs(answers, (), True, None)
    assert [(t.name, binary) for t, binary in everything] == [("logits", True), ("more", True)]
    ((tensor, binary),) = choose_outputs(answers, [Wanted("more", False)], True, None)
    assert (tensor.name, binary) == ("more", False)
    specs = [TensorSpec("logits", "FP32", (None, 3)), TensorSpec("more", "FP32", (None, 2))]
    check_wanted([Wanted("more"), Wanted("logits", classes=1)], specs, True)
    for wanted, facts in (
        (Wanted("less"), ["less", "logits", "more"]),
        (Wanted("logits", classes=1), ["classification", "logits"]),
    ):
        with pytest.raises(ProtocolError) as caught:
            check_wanted([wanted], specs, False)
        assert caught.value.status == 400 and tells(caught.value, *facts)


def test_what_a_model_takes_is_checked():
    spec = TensorSpec("x", "FP32", (None, 3))
    spec.check(Tensor("x", "FP32", (7, 3), np.ones((7, 3), np.float32)))
    for datatype, shape in (("FP64", (7, 3)), ("FP32", (7, 4)), ("FP32", (3,))):
        with pytest.raises(ProtocolError):
            spec.check(Tensor("x", datatype, shape, []))
    assert spec.to_dict() == {"name": "x", "datatype": "FP32", "shape": [-1, 3]}


def test_binary_tensors_need_no_copy_and_are_aligned():
    for spaces in range(4):
        asked = head(parameters={"binary_data_size": 8}) + b" " * spaces
        body = asked + struct.pack("<2f", 1, 2)
        (read,) = read_request(body, {HEADER_LENGTH: str(len(asked))}).inputs
        assert read.data.flags.aligned and read.data.tolist() == [1, 2]
