"""What is trained, what decays, how fast, and the scalars of an update, without a framework."""

from math import exp
from typing import get_args, get_type_hints

import pytest

from pvt_spec import VARIANTS, ConfigError, make_config, tensor_specs
from pvt_train.optim.optimizer import (
    BETAS,
    adamw_update,
    decaying_names,
    ema_decay,
    layer_scales,
    trainable_names,
)
from pvt_train.recipe.keys import Recipe
from tests.support.messages import naming, tells

TINY, B0 = VARIANTS["pvt_tiny"], VARIANTS["pvt_v2_b0"]


class TestDecay:
    def names(self, config, weight_decay_filter):
        decaying, every = decaying_names(config, weight_decay_filter), tensor_specs(config)
        return decaying, {spec.name for spec in every} - decaying

    @pytest.mark.parametrize("config", [TINY, B0])
    def test_mindcvs_default_lets_every_tensor_decay(self, config):
        assert self.names(config, "disable")[1] == set()

    @pytest.mark.parametrize("config", [TINY, B0])
    def test_norm_and_bias_is_by_name(self, config):
        """MindCV's rule: ``gamma``, ``beta`` or ``bias`` in MindSpore's name of a tensor."""
        expected = {
            spec.name
            for spec in tensor_specs(config)
            if spec.name.endswith(".bias") or spec.kind == "norm"
        }
        assert self.names(config, "norm_and_bias")[1] == expected
        assert {"head.bias", "block1.0.attn.norm.weight"} <= expected
        assert "cls_token" not in expected

    def test_auto_exempts_norms_and_no_other_bias(self):
        decaying, others = self.names(TINY, "auto")
        assert {"norm.bias", "patch_embed1.norm.weight"} <= others
        assert {"head.bias", "block1.0.attn.q.bias", "cls_token", "pos_embed1"} <= decaying

    def test_the_official_code_exempts_the_class_token_too(self):
        official, by_name = (
            self.names(TINY, rule)[1] for rule in ("vectors_and_cls_token", "norm_and_bias")
        )
        assert official - by_name == {"cls_token"}
        assert by_name < official

    def test_rules_are_told_apart(self):
        rules = get_args(get_type_hints(Recipe)["weight_decay_filter"])
        counts = [len(self.names(TINY, rule)[1]) for rule in rules]
        assert len(set(counts)) == len(rules) == 4


class TestFreezing:
    def test_nothing_is_frozen_by_itself(self):
        assert trainable_names(B0, ()) == [spec.name for spec in tensor_specs(B0)]

    def test_patterns_are_those_of_a_shell(self):
        names = trainable_names(TINY, ("patch_embed[12].*", "pos_embed?", "block1.*", "cls_token"))
        assert names[0] == "block2.0.norm1.weight"
        assert not [n for n in names if n.startswith(("block1.", "pos_embed", "patch_embed1."))]
        assert {"patch_embed3.proj.weight", "head.bias", "norm.weight"} <= set(names)

    def test_a_pattern_that_matches_nothing_is_named_with_a_name_that_is_near(self):
        with pytest.raises(ConfigError) as error:
            trainable_names(B0, ("block9.*", "haed.*", "block1.*"))
        assert tells(str(error.value), "'block9.*'")
        assert tells(str(error.value), "'haed.*'")
        assert "'block1.*' matches" not in str(error.value)

    def test_something_is_left_to_train(self):
        with pytest.raises(ConfigError, match=naming("train")):
            trainable_names(B0, ("*",))


class TestLayerDecay:
    @pytest.mark.parametrize(
        ("config", "name", "steps_below"),
        [
            # pvt_tiny: embedding and two blocks in each of four stages, then norm and head.
            (TINY, "head.weight", 0),
            (TINY, "norm.bias", 0),
            (TINY, "block4.1.mlp.fc2.weight", 1),
            (TINY, "block4.0.norm1.weight", 2),
            (TINY, "patch_embed4.proj.weight", 3),
            (TINY, "pos_embed4", 3),
            (TINY, "cls_token", 3),
            (TINY, "block3.1.attn.q.weight", 4),
            (TINY, "block1.0.attn.sr.weight", 11),
            (TINY, "patch_embed1.norm.bias", 12),
            (TINY, "pos_embed1", 12),
            (B0, "norm4.weight", 0),
            (B0, "norm3.weight", 4),
            (B0, "block3.1.mlp.dwconv.dwconv.weight", 4),
            (B0, "norm1.bias", 10),
            (B0, "patch_embed1.proj.weight", 12),
            (VARIANTS["pvt_v2_b2"], "block3.5.norm2.bias", 5),
            (VARIANTS["pvt_v2_b2"], "patch_embed3.proj.weight", 11),
            (VARIANTS["pvt_v2_b2"], "patch_embed1.proj.weight", 20),
        ],
    )
    def test_a_layer_learns_slower_the_further_it_is_from_the_head(self, config, name, steps_below):
        assert layer_scales(config, 0.75)[name] == pytest.approx(0.75**steps_below)

    def test_without_it_all_learn_alike(self):
        assert set(layer_scales(TINY, None).values()) == {1.0}

    def test_a_model_of_maps_ends_at_its_last_block(self):
        config = make_config("pvt_tiny", features_only=True)
        assert layer_scales(config, 0.5)["block4.1.norm1.weight"] == 1.0


class TestNumbers:
    def test_the_constants_are_the_papers(self):
        assert (BETAS, Recipe("pvt_tiny").eps) == ((0.9, 0.999), 1e-8)

    @pytest.mark.parametrize("count", [1, 2, 10, 1000])
    @pytest.mark.parametrize("eps", [1e-8, 1e-3])
    def test_an_update_without_bias_correction_is_one_with_it(self, count, eps):
        m, v, w, lr, decay = 0.3, 0.02, 1.7, 1e-3, 0.05
        update = adamw_update(count, lr, decay, eps)
        found = w - update.rate * (m / (v**0.5 + update.eps) + update.decay * w)
        corrected = m / (1 - 0.9**count) / ((v / (1 - 0.999**count)) ** 0.5 + eps)
        assert found == pytest.approx(w - lr * (corrected + decay * w), rel=1e-12)

    @pytest.mark.parametrize("update", [1, 100, 2000, 100_000])
    def test_the_moving_average_sets_in_slowly(self, update):
        assert ema_decay(update, 0.9999) == pytest.approx(0.9999 * (1 - exp(-update / 2000)))

    def test_the_first_average_is_nearly_the_weights(self):
        assert ema_decay(1, 0.9999) == pytest.approx(0.9999 * 4.99875e-4, rel=1e-5)
