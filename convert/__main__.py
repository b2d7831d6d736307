"""``python -m convert``, and the installed command."""

from pvt_data.edge import run


def main() -> None:
    """Runs the command ``convert``."""
    run("convert")


if __name__ == "__main__":
    main()
