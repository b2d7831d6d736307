"""The PyTorch twin in torch's own compilers."""

import warnings

import pytest
import torch

import pvt_torch
from pvt_spec.errors import RuntimeUnusable
from pvt_torch.taps import compiling
from tests.support.messages import naming
from tests.support.models import info_of, random_images, random_weights


@pytest.fixture
def model(small_or_maps):
    info = info_of(small_or_maps)
    return pvt_torch.model_from_weights(
        info.config, info.numerics, random_weights(small_or_maps)
    ).eval()


def same(found, expected) -> bool:
    pairs = (
        zip(found, expected, strict=True) if isinstance(expected, tuple) else [(found, expected)]
    )
    return all(torch.equal(ours, theirs) for ours, theirs in pairs)


@pytest.mark.sampled
def test_traced_and_exported_models_answer_the_same(model):
    images = torch.from_numpy(random_images(model.config))
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what tracing takes for constant, and of torch's own
        expected = model(images)
        assert same(torch.jit.trace(model, images)(images), expected)
        assert same(torch.export.export(model, (images,)).module()(images), expected)


def test_scripting_says_what_to_use_instead(model):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own
        with pytest.raises(TypeError, match=naming("torch.jit.script", "torch.jit.trace")):
            torch.jit.script(model)


def test_where_torch_cannot_compile_it_is_one_line():
    def refuse(graph, inputs):
        raise RuntimeError("no compiler\nand much more")

    compiled = torch.compile(lambda x: x + 1, backend=refuse)
    said = naming("no compiler", "without compiling")
    with pytest.raises(RuntimeUnusable, match=said) as told, compiling():
        compiled(torch.ones(1))
    assert "\n" not in str(told.value)
    with pytest.raises(RuntimeError, match="another"), compiling():
        raise RuntimeError("another")
