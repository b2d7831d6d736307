"""What wrappers and detectors put before the names of a model's tensors."""

from collections.abc import Iterable

PREFIXES = ("module.", "_orig_mod.", "model.", "state_dict.", "backbone.", "network.")
"""What wrappers (DDP, torch.compile, trainers) put before every name."""

BACKBONE = "backbone."
"""What detectors put before the names of their backbone, beside a neck and heads."""


def find_prefix(names: Iterable[str]) -> str:
    """Returns the known prefixes that all names share, put together; "" where they share none."""
    names = list(names)
    found = ""
    while True:
        shared = [p for p in PREFIXES if all(n.startswith(found + p) for n in names)]
        if not shared or not names:
            return found
        found += shared[0]
