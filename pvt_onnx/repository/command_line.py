"""``pvt-onnx repository``. Everything heavier than click is imported inside the command."""

import os
from pathlib import Path

import click

from pvt_data.command_line import PATH, say, show_result


def add_repository(group: click.Group) -> None:
    """Adds ``repository MODEL… DST`` to a command line."""

    @group.command()
    @click.argument("models", nargs=-1, required=True, type=PATH, metavar="MODEL...")
    @click.argument("dst", type=PATH)
    @click.option(
        "--max-batch",
        default=16,
        show_default=True,
        type=click.IntRange(1, 4096),
        help="Images that go into one call of a model.",
    )
    @click.option(
        "--kserve",
        metavar="URI",
        help="Write a manifest for KServe too, for DST at this place: s3://…, gs://…, pvc://…",
    )
    @click.option("--force", is_flag=True, help="Replace models of these names in DST.")
    def repository(
        models: tuple[Path, ...], dst: Path, max_batch: int, kserve: str | None, force: bool
    ) -> None:
        """Write each MODEL into DST as Triton, OpenVINO Model Server and KServe load it.

        DST/NAME takes what the file takes; DST/NAME_pixels has the same weights and prepares
        images of any size itself, so that clients send pixels.
        """
        from pvt_onnx.repository.manifest import MANIFEST, check_manifest, write_manifest
        from pvt_onnx.repository.writing import write_repository
        from pvt_onnx.serve.repository import name_files
        from pvt_spec.files.replacing import check_target, replacing

        manifest, service = dst / MANIFEST, Path(os.path.abspath(dst)).name
        if kserve is not None:
            check_manifest(service, kserve)
            check_target(manifest, force)
        for name in write_repository(name_files(models, say), dst, max_batch, force, say):
            show_result(str(dst / name))
        if kserve is not None:
            with replacing(manifest, force) as stream:
                stream.write(write_manifest(service, kserve).encode())
            show_result(str(manifest))
