"""``pvt-onnx repository``: by the schemas of those who load it, and served by our own server."""

import io
import os
import shutil

import numpy as np
import onnx
import onnx.compose
import onnxruntime
import pytest
import tritonclient.http as client
import yaml
from google.protobuf import text_format
from PIL import Image
from tritonclient.grpc import model_config_pb2

from convert.options import OnnxOptions
from pvt_data.sources.imagenet import imagenet_names
from pvt_onnx.command_line import main
from pvt_onnx.repository.config import quoted
from pvt_onnx.serve.repository import list_repository
from pvt_spec.files.temporary import new_folder
from tests.support.commands import invoke, refusal
from tests.support.messages import tells
from tests.support.serving.models import LABELS, picture, save
from tests.support.serving.running import running

MANIFEST = {
    "apiVersion": "serving.kserve.io/v1beta1",
    "kind": "InferenceService",
    "metadata": {"name": str},
    "spec": {
        "predictor": {
            "model": {"modelFormat": {"name": "onnx"}, "protocolVersion": "v2", "storageUri": str}
        }
    },
}
"""The fields of a manifest, and what is in them.

Source: KServe's documentation, "Deploy InferenceService with ONNX model", version 0.12.
"""


def config_of(folder):
    """What protobuf reads of a configuration, by the schema in tritonclient."""
    text = (folder / "config.pbtxt").read_text()
    return text_format.Parse(text, model_config_pb2.ModelConfig())


def written(*words):
    done = invoke(main, "repository", *words)
    assert done.exit_code == 0, done.output
    return done


def test_a_model_is_there_twice_and_served_with_the_same_answers(tmp_path):
    path = save(tmp_path / "m.onnx", size=(32, 48))
    done = written(path, tmp_path / "r")
    assert done.stdout.split() == [str(tmp_path / "r/m"), str(tmp_path / "r/m_pixels")]
    files = list_repository(tmp_path / "r", pytest.fail)
    assert [each.name for each in files] == ["m", "m_pixels"]
    assert (tmp_path / "r/m/1/model.onnx").read_bytes() == path.read_bytes()
    data = picture()
    pixels = np.asarray(Image.open(io.BytesIO(data)))[None]
    with running(files) as server, client.InferenceServerClient(server.place) as triton:
        image = client.InferInput("image", [1], "BYTES")
        image.set_data_from_numpy(np.array([data], object))
        given = client.InferInput("images", [*pixels.shape], "UINT8")
        given.set_data_from_numpy(pixels)
        one = triton.infer("m", [image]).as_numpy("logits")
        other = triton.infer("m_pixels", [given]).as_numpy("logits")
        for name in ("m", "m_pixels"):
            config, said = config_of(tmp_path / "r" / name), triton.get_model_metadata(name)
            assert config.name == name and config.platform == said["platform"]
            (took,), (took_config,) = said["inputs"][:1], config.input
            assert [*took_config.dims] == took["shape"][1:]
            assert model_config_pb2.DataType.Name(took_config.data_type)[5:] == took["datatype"]
            (answered,) = config.output
            assert answered.name == "logits" and [*answered.dims] == [4]
            labels = (tmp_path / "r" / name / answered.label_filename).read_text()
            assert tuple(labels.splitlines()) == LABELS
    assert np.allclose(one, other, atol=0.05) and one.argmax() == other.argmax()


def test_what_triton_is_told(tmp_path):
    path = save(tmp_path / "m.onnx")
    written(path, tmp_path / "r", "--max-batch", 8)
    config = config_of(tmp_path / "r/m")
    assert config.max_batch_size == 8 and config.HasField("dynamic_batching")
    (group,), (warm,) = config.instance_group, config.model_warmup
    assert (group.count, group.kind) == (1, model_config_pb2.ModelInstanceGroup.KIND_AUTO)
    assert warm.batch_size == 1 and [*warm.inputs["images"].dims] == [3, 32, 32]
    assert warm.inputs["images"].zero_data


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("onnx", "names", "dims"),
    [
        (OnnxOptions(uint8=True), ["m", "m_pixels"], [32, 32, 3]),
        (OnnxOptions(embed=True), ["m"], [-1, -1, 3]),
        (OnnxOptions(dynamic_size=True), ["m", "m_pixels"], [3, -1, -1]),
        (OnnxOptions(precision="fp16"), ["m"], [3, 32, 32]),
        (OnnxOptions(external_data=True), ["m", "m_pixels"], [3, 32, 32]),
    ],
)
def test_every_kind_of_graph(onnx, names, dims, tmp_path):
    done = written(save(tmp_path / "m.onnx", onnx=onnx), tmp_path / "r")
    found = [each.name for each in list_repository(tmp_path / "r", pytest.fail)]
    assert found == names and [*config_of(tmp_path / "r/m").input[0].dims] == dims
    assert (len(names) == 2) or tells(done.stderr, "m_pixels")
    with running(list_repository(tmp_path / "r", pytest.fail)) as server:
        assert server.service.ready


def test_maps_have_no_labels_and_a_thousand_classes_those_of_imagenet(tmp_path):
    maps = save(tmp_path / "maps.onnx", labels=(), num_classes=0, features_only=True)
    written(maps, save(tmp_path / "i.onnx", labels=(), num_classes=1000), tmp_path / "r")
    config = config_of(tmp_path / "r/maps")
    assert len(config.output) == 4 and not any(each.label_filename for each in config.output)
    assert not (tmp_path / "r/maps/labels.txt").exists()
    assert tuple((tmp_path / "r/i/labels.txt").read_text().splitlines()) == imagenet_names()


def test_the_manifest_has_kserves_fields(tmp_path):
    written(save(tmp_path / "m.onnx"), tmp_path / "my-models", "--kserve", "s3://b/my-models")
    found = yaml.safe_load((tmp_path / "my-models/inference-service.yaml").read_text())

    def check(value, of):
        if isinstance(of, dict):
            assert value.keys() == of.keys()
            for name, inner in of.items():
                check(value[name], inner)
        else:
            assert isinstance(value, str) if of is str else value == of

    check(found, MANIFEST)
    assert found["metadata"]["name"] == "my-models"


def test_nothing_is_replaced_without_force_and_no_part_is_left(tmp_path):
    path = save(tmp_path / "m.onnx")
    written(path, tmp_path / "r")
    (tmp_path / "r/m/mine").write_text("mine")
    assert tells(refusal(main, "repository", path, tmp_path / "r"), "r/m", "force")
    assert (tmp_path / "r/m/mine").exists()
    written(path, tmp_path / "r", "--force")
    assert not (tmp_path / "r/m/mine").exists()
    assert {*os.listdir(tmp_path / "r")} == {"m", "m_pixels"}
    other = save(tmp_path / "other.onnx")
    written(other, tmp_path / "r")  # beside the others
    assert {*os.listdir(tmp_path / "r")} == {"m", "m_pixels", "other", "other_pixels"}


def test_what_a_killed_process_left_goes_and_what_one_at_work_has_stays(tmp_path):
    path, target = save(tmp_path / "m.onnx"), tmp_path / "r"
    left = target / f".pvt-{'0' * 16}.tmp"
    for part in ("new/1", "old/replaced/1"):
        (left / part).mkdir(parents=True)
        (left / part / "model.onnx").write_bytes(b"some")
    (target / ".pvt-mine").mkdir()
    with new_folder(target / "other") as busy:
        written(path, target)
        there = {"m", "m_pixels", "replaced", ".pvt-mine"}
        assert {*os.listdir(target)} == {*there, busy.name}
    assert {*os.listdir(target)} == there
    assert (target / "replaced/1/model.onnx").read_bytes() == b"some"


def test_a_source_that_changes_meanwhile_is_in_no_repository(tmp_path, monkeypatch):
    path = save(tmp_path / "m.onnx")
    copy = shutil.copyfile
    monkeypatch.setattr(
        "pvt_onnx.repository.writing.shutil.copyfile",
        lambda *of: (copy(*of), os.utime(path, (1, 1))),
    )
    assert tells(refusal(main, "repository", path, tmp_path / "r"), "m.onnx", "written to")
    assert not (tmp_path / "r").exists()


def test_models_that_are_written_are_told_and_stay_though_a_later_one_is_none(tmp_path):
    path, other = save(tmp_path / "m.onnx"), tmp_path / "other.onnx"
    other.write_bytes(b"none")
    done = invoke(main, "repository", path, other, tmp_path / "r")
    assert done.exit_code == 1 and tells(done.stderr, "other.onnx")
    assert done.stdout.split() == [str(tmp_path / "r/m"), str(tmp_path / "r/m_pixels")]
    assert {*os.listdir(tmp_path / "r")} == {"m", "m_pixels"}


def test_sizes_in_another_file_are_written_into_the_model(tmp_path):
    """Who opens such a model by its path reads no sizes from there."""
    onnx.save(
        onnx.load(save(tmp_path / "n.onnx")), tmp_path / "m.onnx",
        save_as_external_data=True, size_threshold=0,
    )  # fmt: skip
    done = written(tmp_path / "m.onnx", tmp_path / "r")
    assert tells(done.stderr, "m.onnx", "sizes", "one") and tells(done.stdout, "m_pixels")
    assert os.listdir(tmp_path / "r/m/1") == ["model.onnx"]
    onnxruntime.InferenceSession(tmp_path / "r/m/1/model.onnx")


def test_weights_of_other_names_make_no_model_that_takes_pixels(tmp_path):
    """The model itself was written, and then an error said."""
    model = onnx.compose.add_prefix(
        onnx.load(save(tmp_path / "n.onnx")), "x_", rename_inputs=False, rename_outputs=False
    )
    onnx.save(model, tmp_path / "m.onnx")
    done = written(tmp_path / "m.onnx", tmp_path / "r")
    assert os.listdir(tmp_path / "r") == ["m"] and tells(done.stderr, "no m_pixels", "missing")


def test_an_older_model_that_takes_pixels_is_told(tmp_path):
    written(save(tmp_path / "m.onnx"), tmp_path / "r")
    (tmp_path / "m.onnx").unlink()
    again = save(tmp_path / "m.onnx", onnx=OnnxOptions(precision="fp16"))
    assert tells(written(again, tmp_path / "r", "--force").stderr, "m_pixels", "another file")


def test_what_cannot_be_written_is_one_error(tmp_path):
    path, broken = save(tmp_path / "m.onnx"), tmp_path / "broken.onnx"
    broken.write_bytes(b"none")
    for words, facts in (
        ([broken, tmp_path / "r"], ["broken.onnx"]),
        ([path, broken], ["broken.onnx", "expected a folder"]),
        ([path, tmp_path / "no/r"], ["no"]),
        ([path, save(tmp_path / "m_pixels.onnx"), tmp_path / "r"], ["m_pixels"]),
        ([path, tmp_path / "r", "--kserve", "elsewhere"], ["elsewhere"]),
        ([path, tmp_path / "My_models", "--kserve", "s3://b"], ["My_models"]),
        ([path, tmp_path / "2024-models", "--kserve", "s3://b"], ["2024-models", "letter"]),
    ):
        assert tells(refusal(main, "repository", *words), *facts), words
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize("where", ["m/1/m.onnx", "m/m.onnx", "m_pixels/m.onnx"])
def test_a_source_is_not_replaced_by_what_is_made_of_it(where, tmp_path):
    path = save(tmp_path / "r" / where)
    before = path.read_bytes()
    other = save(tmp_path / "n.onnx")
    (tmp_path / "linked").symlink_to(tmp_path / "r")
    for words in ([path], [other, path], [tmp_path / "linked" / where]):
        assert tells(refusal(main, "repository", *words, tmp_path / "r", "--force"), "m.onnx")
    assert path.read_bytes() == before and not (tmp_path / "r/n").exists()


def test_weights_beside_a_source_are_not_replaced(tmp_path):
    path = save(tmp_path / "r/m.onnx", onnx=OnnxOptions(external_data=True))
    proto = onnx.load(path, load_external_data=False)
    (tmp_path / "r/m").mkdir()
    (tmp_path / "r/m.onnx.data").rename(tmp_path / "r/m/w")
    for each in proto.graph.initializer:
        for entry in each.external_data:
            entry.value = "m/w" if entry.key == "location" else entry.value
    path.write_bytes(proto.SerializeToString())
    refusal(main, "repository", path, tmp_path / "r", "--force")
    assert (tmp_path / "r/m/w").stat().st_size


@pytest.mark.parametrize("name", ["a", 'a "b" \\n', "é\n\x00", "名"])
def test_any_name_is_read_back(name):
    text = f"name: {quoted(name)}"
    assert text_format.Parse(text, model_config_pb2.ModelConfig()).name == name
