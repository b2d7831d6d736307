"""``python -m pvt_onnx``, and the installed command."""

from pvt_data.edge import run


def main() -> None:
    """Runs the command ``pvt-onnx``."""
    run("pvt_onnx")


if __name__ == "__main__":
    main()
