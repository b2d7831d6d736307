"""``python -m parity``, and the installed command."""

from pvt_data.edge import run


def main() -> None:
    """Runs the command ``parity``."""
    run("parity")


if __name__ == "__main__":
    main()
