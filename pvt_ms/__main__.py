"""``python -m pvt_ms``, and the installed command."""

from pvt_data.edge import run


def main() -> None:
    """Runs the command ``pvt-ms``."""
    run("pvt_ms")


if __name__ == "__main__":
    main()
