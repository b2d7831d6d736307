"""``python -m pvt_torch``, and the installed command."""

from pvt_data.edge import run


def main() -> None:
    """Runs the command ``pvt-torch``."""
    run("pvt_torch")


if __name__ == "__main__":
    main()
