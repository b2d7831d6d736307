"""What the code behind a dialect computes, where that is no profile alone: transformers' maths.

Source: ``modeling_pvt.py`` and ``modeling_pvt_v2.py`` of transformers 5.23.
"""

from typing import Any

from pvt_spec import EPSILONS, Numerics, PVTConfig


def one_epsilon(gelu: str, epsilon: float) -> Numerics:
    """Returns transformers' maths, but for what its configuration leaves open."""
    epsilons: dict[str, Any] = dict.fromkeys(EPSILONS, epsilon)
    return Numerics(
        gelu=gelu,
        conv_padding="symmetric",
        pos_embed_dtype="float32",
        pos_embed_resize="half_pixel",
        **epsilons,
    )


def expressible(numerics: Numerics, config: PVTConfig) -> Numerics:
    """Returns what transformers computes where ``numerics`` is asked for, as near to it as it can.

    The GELU of linear attention is always the exact one.
    """
    epsilons = {getattr(numerics, field) for field in EPSILONS}
    epsilon = epsilons.pop() if len(epsilons) == 1 else 1e-6
    return one_epsilon("erf" if config.linear else numerics.gelu, epsilon)
