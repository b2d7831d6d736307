"""From what was chosen of a file to the tensors of a model: its head is found, the rest is said."""

from collections import Counter
from collections.abc import Iterator, Mapping

import numpy as np

from convert.findings import Finding
from convert.model.choose import Choice, FindNaming
from convert.names.detect import detect_dialect
from convert.names.heads import Head, find_head
from convert.names.naming import Naming
from convert.names.prefixes import averaged_part, count_beside
from convert.names.training_state import count_leading_parts
from convert.names.wrappers import remedy, wrapped_prefix, wrappers_in
from pvt_spec.arrays import Array
from pvt_spec.errors import ConvertError

Weights = dict[str, Array]

STATE_STAYS = "left behind; --training-state moves it too"
"""What is said of the state of a training beside a model."""


def take(
    choice: Choice, find: FindNaming, *, keep_head: bool
) -> tuple[Weights, Naming, list[Finding]]:
    """Takes the tensors of the model that was chosen, with its head, wherever that lies.

    Args:
        choice: What was chosen.
        find: A function that tells how tensors are named.
        keep_head: Whether a head that is no PVT's is an error; else it is left out.

    Returns:
        The tensors by their own names, without wrappers and prefix; how they are named; what was
        found on the way and what was not taken.

    Raises:
        ConvertError: The tensors are no PVT's, or its head is not.
    """
    place, prefix, weights = choice.taken.place, choice.taken.prefix, choice.taken.weights
    used = {place.full(prefix + name) for name in weights}
    head, own, base = _head(choice, keep_head)
    if head.place or head.odd:
        around = _around(choice)
        whole = place.full(prefix)
        replaced = {name.removeprefix(whole) for name in (*head.odd, *head.names)}
        weights = {base + n: array for n, array in weights.items() if n not in replaced}
        weights |= {f"{own}.{part}": around[name] for name, part in head.names.items()}
        used |= {*head.odd, *head.names}
        prefix = prefix.removesuffix(base)
    naming = find({name: array.shape for name, array in weights.items()})
    weights, single = _without_single_values(weights, naming)
    weights, filled = _with_biases(weights, naming)
    findings = [*_where(choice, prefix), *_of_head(head, place.full(f"{prefix}{own}"))]
    if beside := _beside(choice, prefix, used):
        findings.append(Finding("left_out", beside, "beside the model: not converted"))
    for what, names, note in (
        ("ignored", choice.ignored, "as asked for"),
        ("set_aside", single, "single values, no tensors of a PVT"),
        ("filled", filled, "biases that are not there: zeros, which change nothing"),
    ):
        if names:
            findings.append(Finding(what, [*names], note))
    return weights, naming, findings


def _head(choice: Choice, keep_head: bool) -> tuple[Head, str, str]:
    """Returns a model's head, its name in the dialect, and the base that the others then have.

    Raises:
        ConvertError: It is no PVT's, and is to be kept.
    """
    place, prefix = choice.taken.place, choice.taken.prefix
    shapes = {name: array.shape for name, array in choice.taken.weights.items()}
    dialect = detect_dialect(shapes)
    (own,) = dialect.from_canonical("head.weight") or ("",)
    own = own.removesuffix(".weight")
    (last,) = dialect.from_canonical("patch_embed4.proj.weight")
    width = (shapes.get(last) or (0,))[0]
    if not own or not width:
        return Head(), "", ""
    whole = place.full(prefix)
    around = {name: array.shape for name, array in _around(choice).items()}
    head = find_head(around, whole, own, width)
    if head.odd and keep_head:
        shown = ", ".join(f"{name} {around[name]}" for name in head.odd[:8])
        raise ConvertError(
            f"its head ({shown}) is no PVT's, which is one linear layer of {width} inputs: leave "
            "it out by convert with --num-classes 0, or with --features for the maps"
            f"{remedy(head.odd)}"
        )
    based = dialect.base and head.place == f"{whole.removesuffix(dialect.base)}{own}"
    return head, own, dialect.base if based and head.place != f"{whole}{own}" else ""


def _of_head(head: Head, own: str) -> Iterator[Finding]:
    """Yields what is to be said of a head that does not lie where the dialect has it."""
    if head.place and head.place != own:
        yield Finding("head", head.place, "its one linear layer")
    for name in head.odd:
        yield Finding("lost", name, "no PVT's head")


def _around(choice: Choice) -> Weights:
    """Returns all tensors of the file that a model's can be, with the keys before their names."""
    return {
        place.full(name): array
        for place in choice.places
        if place.averaged == choice.taken.place.averaged
        for name, array in place.tensors.items()
    }


def _where(choice: Choice, prefix: str) -> Iterator[Finding]:
    """Yields where a model's tensors lay, and what else of it is there."""
    taken = choice.taken
    if taken.place.keys:
        yield Finding("container", taken.place.keys)
    if choice.averaged:
        note = "taken" if taken.averaged else "not taken: give --weights ema"
        yield Finding("averaged_weights", len(choice.averaged[0].names), note)
    if choice.state:
        yield Finding("training_state", count_leading_parts(choice.state), STATE_STAYS)
    written = [taken.place.written[taken.prefix + name] for name in taken.names]
    shown = wrapped_prefix(written[0], prefix.count(".")) if written else ""
    if not all(name.startswith(shown) for name in written):
        shown = prefix
    if shown:
        yield Finding("prefix_removed", shown)
    inside = Counter(part for name in written for part in wrappers_in(name.removeprefix(shown)))
    if inside:
        yield Finding("wrappers_removed", dict(inside))


def _beside(choice: Choice, prefix: str, used: set[str]) -> dict[str, int]:
    """Counts the tensors that are not taken, by the parts in which their names begin to differ.

    Averaged weights are said by themselves.
    """
    taken, counts = choice.taken, Counter[str]()
    others = [each for each in choice.averaged if each is not taken]
    parts = (averaged_part(each.place.full(each.prefix)) for each in others)
    averaged = tuple(filter(None, parts))
    for place in choice.places:
        full = {name: place.full(name) for name in place.tensors}
        names = [n for n, f in full.items() if f not in used and not f.startswith(averaged)]
        if place.averaged != taken.place.averaged:
            continue
        if place.keys == taken.place.keys:
            counts.update(count_beside(names, prefix))
        elif names:
            counts[f"{place.keys}.*"] += len(names)
    return dict(counts)


def _without_single_values(
    weights: Mapping[str, Array], naming: Naming
) -> tuple[Weights, list[str]]:
    """Returns the tensors less single values that are no part of a model: counters, a rate.

    A number that may be learned, within a layer of the model, stays: it changes the answers.
    """
    specs = {spec.name for pairing in naming.pairings for spec in pairing.theirs}
    layers = {name.partition(".")[0] for name in specs}
    single = {
        name: None
        for name, array in weights.items()
        if name not in specs
        and array.size == 1
        and (array.dtype.kind in "biu" or name.partition(".")[0] not in layers)
    }
    return {name: array for name, array in weights.items() if name not in single}, [*single]


def _with_biases(weights: Weights, naming: Naming) -> tuple[Weights, list[str]]:
    """Returns the tensors with zeros for biases, where queries, keys and values have none at all.

    PVT's ``qkv_bias=False`` computes the same.
    """
    missing = [
        spec
        for pairing in naming.pairings
        if all(our.layer in ("attn.q", "attn.kv") and our.part == "bias" for our in pairing.ours)
        for spec in pairing.theirs
    ]
    if any(spec.name in weights for spec in missing):
        return weights, []
    filled = {}
    for spec in missing:
        layer = weights.get(spec.name.removesuffix("bias") + "weight")
        if layer is not None:
            filled[spec.name] = np.zeros(spec.shape, layer.dtype)
    return weights | filled, [*filled]
