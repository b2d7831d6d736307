"""Training checkpoints: they come back bit for bit, are model files, and damage is noticed."""

import resource
import signal

import numpy as np
import pytest

from convert import ConvertError, load_model
from convert.model.read import Given, read_model
from convert.training.checkpoint import load_training, save_training
from pvt_spec import tensor_specs
from tests.support.messages import naming
from tests.support.models import SMALL, assert_same, info_of, random_weights
from tests.support.training import FACTS, full_state


@pytest.fixture(params=SMALL)
def kind(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(params=[".ckpt", ".pth"])
def saved(request, tmp_path, kind):
    path = tmp_path / f"last{request.param}"
    save_training(path, full_state(kind), info_of(SMALL[kind]), FACTS)
    return path


class TestRoundTrip:
    def test_every_bit_comes_back(self, saved, kind):
        state, info, facts = load_training(saved)
        assert_same(state, full_state(kind))
        assert info == info_of(SMALL[kind])
        assert facts == FACTS

    def test_it_is_a_model_file_too(self, saved, kind):
        weights, info = load_model(saved)
        assert_same(weights, random_weights(SMALL[kind]))
        assert info == info_of(SMALL[kind])

    def test_its_averages_can_be_taken(self, saved, kind):
        averaged = read_model(saved, Given(weights="ema")).weights
        assert_same(averaged, random_weights(SMALL[kind], seed=3))

    def test_both_formats_hold_the_same(self, saved, kind, tmp_path):
        state, info, facts = load_training(saved)
        other = tmp_path / ("moved.ckpt" if saved.suffix == ".pth" else "moved.pth")
        save_training(other, state, info, facts)
        state, info, facts = load_training(other)
        assert_same(state, full_state(kind))
        assert (info, facts) == (info_of(SMALL[kind]), FACTS)

    def test_pytorch_reads_it(self, tmp_path, kind):
        import torch

        from pvt_torch.model import PyramidVisionTransformer

        info, state = info_of(SMALL[kind]), full_state(kind)
        save_training(tmp_path / "last.pth", state, info, FACTS)
        held = torch.load(tmp_path / "last.pth", weights_only=True)
        model = PyramidVisionTransformer(info.config, info.numerics)
        model.load_state_dict(held["state_dict"], strict=True)
        for name, tensor in held["training_state"].items():
            assert np.array_equal(tensor.numpy(), state[name]), name

    @pytest.mark.parametrize("saved", [".ckpt"], indirect=True)
    def test_mindspore_reads_it(self, saved, kind):
        import mindspore

        parameters = mindspore.load_checkpoint(str(saved))
        array = full_state(kind)["moment1.block1.0.norm1.weight"]
        assert np.array_equal(parameters["moment1.block1.0.norm1.gamma"].asnumpy(), array)


class TestDamage:
    @pytest.mark.parametrize("kind", ["v1"], indirect=True)
    def test_a_file_that_was_cut_off(self, saved, tmp_path):
        whole = saved.read_bytes()
        cut = tmp_path / f"cut{saved.suffix}"
        for share in (0.0, 0.3, 0.7, 0.999):
            cut.write_bytes(whole[: int(len(whole) * share)])
            with pytest.raises(ConvertError, match=rf"cut\{saved.suffix}"):
                load_training(cut)

    @pytest.mark.parametrize("kind", ["v1"], indirect=True)
    def test_every_changed_byte_of_a_tensor(self, saved, tmp_path):
        whole = saved.read_bytes()
        values = full_state("v1")["moment2.head.weight"].tobytes()
        at = whole.index(values)
        for offset in (0, len(values) // 2, len(values) - 1):
            changed = bytearray(whole)
            changed[at + offset] ^= 1
            path = tmp_path / f"changed{saved.suffix}"
            path.write_bytes(changed)
            # A zip has a sum of each record beside.
            with pytest.raises(ConvertError, match="digest" if path.suffix == ".ckpt" else "CRC"):
                load_training(path)

    @pytest.mark.parametrize("saved", [".ckpt"], indirect=True)
    @pytest.mark.parametrize("kind", ["v1"], indirect=True)
    def test_a_tensor_that_is_missing(self, saved, tmp_path):
        from convert.formats import ckpt

        file = ckpt.read(saved)
        del file.tensors["moment1.head.bias"]
        with (tmp_path / "less.ckpt").open("wb") as stream:
            ckpt.write(stream, file.tensors, file.metadata)
        with pytest.raises(ConvertError, match="digest"):
            load_training(tmp_path / "less.ckpt")

    def test_a_model_file_is_no_state(self, tmp_path):
        from convert import save_model

        save_model(tmp_path / "model.ckpt", random_weights(SMALL["v1"]), info_of(SMALL["v1"]))
        with pytest.raises(ConvertError, match=naming("last.ckpt", "--pretrained")):
            load_training(tmp_path / "model.ckpt")


def test_a_full_disk_keeps_the_last_good_one(tmp_path):
    target = tmp_path / "last.ckpt"
    save_training(target, full_state("v1"), info_of(SMALL["v1"]), FACTS)
    before = target.read_bytes()
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, hard))
    try:
        with pytest.raises(ConvertError, match=r"last\.ckpt"):
            save_training(target, full_state("v1"), info_of(SMALL["v1"]), {"run": {"step": 13}})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, ignored)
    assert target.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]


def test_names_without_a_weight_stay_as_they_are(tmp_path):
    state = {**full_state("v1"), "good_steps": np.array(3, np.int64)}
    save_training(tmp_path / "last.ckpt", state, info_of(SMALL["v1"]), FACTS)
    assert list(load_training(tmp_path / "last.ckpt")[0])[-1] == "good_steps"
    assert len(load_model(tmp_path / "last.ckpt")[0]) == len(tensor_specs(SMALL["v1"]))


def test_what_is_said_of_it_is_covered_too(tmp_path):
    from convert.formats import ckpt
    from convert.training.checkpoint import STATE_KEY
    from pvt_spec import METADATA_KEY

    save_training(tmp_path / "last.ckpt", full_state("v1"), info_of(SMALL["v1"]), FACTS)
    file = ckpt.read(tmp_path / "last.ckpt")
    for name, old, new in (
        (METADATA_KEY, "0.485", "0.486"),
        (STATE_KEY, '"step": 12', '"step": 13'),
    ):
        texts = {**file.metadata, name: file.metadata[name].replace(old, new)}
        assert texts != file.metadata, name
        with (tmp_path / "changed.ckpt").open("wb") as stream:
            ckpt.write(stream, file.tensors, texts)
        with pytest.raises(ConvertError, match=naming("digest")):
            load_training(tmp_path / "changed.ckpt")


@pytest.mark.parametrize("change", [lambda a: a.reshape(1, -1), lambda a: a.view(np.int32)])
def test_the_same_bytes_as_another_tensor_are_noticed(tmp_path, change):
    from convert.formats import ckpt

    save_training(tmp_path / "last.ckpt", full_state("v1"), info_of(SMALL["v1"]), FACTS)
    file = ckpt.read(tmp_path / "last.ckpt")
    tensors = {**file.tensors, "head.bias": change(file.tensors["head.bias"])}
    with (tmp_path / "changed.ckpt").open("wb") as stream:
        ckpt.write(stream, tensors, file.metadata)
    with pytest.raises(ConvertError, match="digest"):
        load_training(tmp_path / "changed.ckpt")


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"facts": 1, "sha256": ""}', "{" * 9], ids=["-", "[]", "{}", "1", "{"]
)
def test_what_is_said_is_no_json_of_ours(tmp_path, text):
    from convert.formats import ckpt
    from convert.training.checkpoint import STATE_KEY

    save_training(tmp_path / "last.ckpt", full_state("v1"), info_of(SMALL["v1"]), FACTS)
    file = ckpt.read(tmp_path / "last.ckpt")
    with (tmp_path / "changed.ckpt").open("wb") as stream:
        ckpt.write(stream, file.tensors, {**file.metadata, STATE_KEY: text})
    with pytest.raises(ConvertError, match=naming("changed.ckpt")):
        load_training(tmp_path / "changed.ckpt")
