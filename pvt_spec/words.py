"""How numbers of things are said, in every message."""


def counted(number: int, noun: str) -> str:
    """Returns ``1 image``, ``2,000 epochs``, ``3 classes``, ``4 batches``."""
    ending = "es" if noun.endswith(("s", "tch")) else "s"
    return f"{number:,} {noun}{'' if number == 1 else ending}"
