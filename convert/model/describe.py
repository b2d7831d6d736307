"""What a model is, in words and as its ModelInfo: what the file says, the user, or a guess."""

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from convert.findings import Finding
from convert.formats.huggingface.images import GUESSED
from convert.model.answers import describe_answers, guess_of_images, with_given
from convert.model.said import Said
from convert.names.dialects import Dialect
from convert.names.naming import Naming
from convert.options import Given
from pvt_spec import (
    PROFILES,
    ModelInfo,
    Numerics,
    PVTConfig,
    default_preprocessing,
    describe_numerics,
    output_names,
    profile_numerics,
    tensor_specs,
)
from pvt_spec.arrays import Array
from pvt_spec.words import printable


def describe(
    path: Path,
    given: Given,
    said: Said,
    naming: Naming,
    weights: Mapping[str, Array],
    *,
    averaged: bool,
    rounded: bool,
) -> ModelInfo:
    """Returns a file's ModelInfo, from what it says or its dialect, with what the user gives.

    Where weights were rounded for a graph to compute with, their dtypes tell nothing of the maths.
    """
    config, dialect = naming.config, naming.dialect
    profile = given.profile or dialect.profile
    numerics = profile_numerics(profile, config.version)
    if said.unseen and not given.profile:
        numerics = said.unseen.numerics
        profile = describe_numerics(numerics, config.version).partition(" ")[0]
    if said.info is None:
        preprocessing = default_preprocessing(config, profile)
        provenance = {"file": printable(path.name), "dialect": dialect.name}
        info = ModelInfo(config, numerics, preprocessing, provenance=provenance)
    else:
        info, provenance = said.info, dict(said.info.provenance)
        if given.profile:
            provenance["profile before it was given"] = info.profile
            info = dataclasses.replace(info, numerics=numerics)
    if averaged:
        provenance["weights"] = "averaged"
    info = with_given(info, given)
    preprocessing = info.preprocessing
    if given.image_size:
        preprocessing = dataclasses.replace(preprocessing, image_size=given.image_size)
    return dataclasses.replace(
        info,
        config=config,
        numerics=info.numerics if rounded else stored_numerics(info, weights),
        preprocessing=preprocessing,
        labels=given.labels or info.labels,
        provenance=provenance,
    )


def guesses_of(info: ModelInfo, given: Given, said: Said, dialect: Dialect) -> dict[str, str]:
    """Returns what is guessed of maths and images, in words, by the description's field."""
    guesses = {}
    unsaid = not said.info or (said.configured and GUESSED in said.info.provenance)
    if unsaid and (guess := guess_of_images(info, given)):
        guesses["preprocessing"] = guess
    if said.origin == "dialect" and not given.profile:
        guesses["profile"] = (
            f"profile {info.profile}: what code with {dialect.name}'s names computes; weights do "
            f"not show it (--profile {'|'.join(PROFILES)})"
        )
    return guesses


def described(
    info: ModelInfo, given: Given, said: Said, guesses: Mapping[str, str]
) -> Iterator[Finding]:
    """Yields what a model is, and where each fact comes from."""
    config, variant = info.config, info.variant
    linear = " linear" if config.linear else ""
    sizes = f"widths {config.embed_dims}, depths {config.depths}"
    shown = variant or f"none named: v{config.version}{linear}, {sizes}"
    note = "its num_heads are a guess" if "num_heads" in guesses else ""
    yield Finding("variant", variant, "given" if given.model else note, shown)
    if given.num_heads:
        other = said.info.config.num_heads if said.info else said.num_heads or config.num_heads
        note = "given" if other == config.num_heads else f"given; the file says {other}"
        yield Finding("num_heads", [*config.num_heads], note)
    elif said.unseen:
        yield Finding("num_heads", [*config.num_heads], said.origin)
    yield Finding("classes", config.num_classes)
    if config.features_only:
        yield Finding("answers", [*output_names(config)], "feature maps, no classes")
    yield Finding("profile", info.profile, "given" if given.profile else said.origin)
    if said.info and given.profile and said.info.profile != info.profile:
        yield Finding("file_says", said.info.profile)
    H, W = info.preprocessing.image_size
    yield Finding("image_size", [H, W], "given" if given.image_size else "", f"{H}x{W}")
    yield from describe_answers(info, given, said.configured)


def pos_embeds(config: PVTConfig) -> list[str]:
    """Returns the names of v1's position embeddings, by stage; v2 has none."""
    return [spec.name for spec in tensor_specs(config) if spec.kind == "pos_embed"]


def stored_numerics(info: ModelInfo, weights: Mapping[str, Array]) -> Numerics:
    """Returns a model's maths, with the dtype that v1's position embeddings are really kept in."""
    first = next(iter(pos_embeds(info.config)), None)
    if first is None:
        return info.numerics
    half = weights[first].dtype == np.float16
    return dataclasses.replace(info.numerics, pos_embed_dtype="float16" if half else "float32")
