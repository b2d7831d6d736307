"""What wrappers put into the names of a model's tensors, wherever they stand."""

import re
from collections.abc import Iterable

_MODULE = "module"
"""What DistributedDataParallel and DataParallel call the model that they wrap."""

_FLATTENED = re.compile(r"(^|\.)stages_(?=\d)")
"""timm's FeatureListNet (``features_only``) makes ``stages_0`` of the name ``stages.0``."""


def is_wrapper(part: str) -> bool:
    """Returns whether a part of a name is a wrapper's: no layer of a PVT has such a name.

    Those of torch.compile, FSDP, activation checkpointing and others begin with an underscore:
    ``_orig_mod``, ``_fsdp_wrapped_module``, ``_checkpoint_wrapped_module``, ``_forward_module``.
    """
    return part.startswith("_") or part == _MODULE


def unwrap(name: str) -> str:
    """Returns a tensor's name as it would be without wrappers."""
    *modules, tensor = name.split(".")
    bare = ".".join((*(part for part in modules if not is_wrapper(part)), tensor))
    return _FLATTENED.sub(r"\1stages.", bare)


def wrappers_in(name: str) -> list[str]:
    """Returns the parts of a tensor's name that are wrappers'."""
    found = [part for part in name.split(".")[:-1] if is_wrapper(part)]
    return found + (["stages_"] if _FLATTENED.search(name) else [])


def wrapped_prefix(name: str, parts: int) -> str:
    """Returns the leading part of a name that has so many parts without wrappers, and theirs."""
    at, names = 0, name.split(".")
    while at < len(names) - 1 and (parts or is_wrapper(names[at])):
        parts -= not is_wrapper(names[at])
        at += 1
    return "".join(f"{part}." for part in names[:at])


_REMEDIES = {
    "_flat_param": "FSDP's flattened tensors: save a full state dict, with "
    "StateDictType.FULL_STATE_DICT",
    "parametrizations": "parametrised weights: call torch.nn.utils.parametrize."
    "remove_parametrizations before saving",
    "weight_g": "weight normalisation: call torch.nn.utils.remove_weight_norm before saving",
    "weight_orig": "pruned or spectrally normalised weights: call torch.nn.utils.prune.remove or "
    "remove_spectral_norm before saving",
    "lora_A": "adapters beside the weights: merge them before saving (merge_and_unload)",
    "_packed_params": "quantised layers: save the model before it is quantised",
}
"""What makes other tensors of a model's, by the part of a name that shows it, and the way back."""


def remedy(names: Iterable[str]) -> str:
    """Returns the words for what made other tensors of a model's, where names show it."""
    found = {part for name in names for part in name.split(".") if part in _REMEDIES}
    return "".join(f". It has {_REMEDIES[part]}" for part in _REMEDIES if part in found)
