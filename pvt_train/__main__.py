"""``python -m pvt_train``, and the installed command."""

from pvt_data.edge import run


def main() -> None:
    """Runs the command ``pvt-train``."""
    run("pvt_train")


if __name__ == "__main__":
    main()
