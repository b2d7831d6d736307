"""``parity certify`` and ``parity verify``. No logic lives here."""

import dataclasses
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from parity.asked import emulate_option, run_asked
from parity.options import (
    INPUTS,
    JUDGING,
    REPORT,
    Chosen,
    choose_inputs,
    model_argument,
    takes,
)
from pvt_data.command_line import PATH, Command, say
from pvt_data.progress import progress_bar
from pvt_packages import require
from pvt_spec.files.json_text import encode_json

if TYPE_CHECKING:
    from convert.certificates.record import CertificateFile
    from parity.certificates.verify import Verified


@click.command(cls=Command)
@click.argument("models", nargs=-1, required=True, type=model_argument)
@click.option("-o", "--output", required=True, type=PATH, help="The certificate, .json.")
@takes("runtime")
@emulate_option
@takes(*INPUTS, "detail", *JUDGING, *REPORT)
def certify(
    models: tuple[Path, ...], output: Path, emulate: tuple[str, ...], chosen: Chosen
) -> None:
    """Run what parity run does, and write what it found as a certificate.

    It holds the hashes of every file, weight and image, the maths, the preprocessing, the verdicts
    and what was measured on which machine; parity verify holds files against it. What is claimed
    gives the same bytes when it is certified again.

    Exit code 0 if all runtimes are the same, 1 if not: a certificate is written then, too, and
    says so.
    """
    from parity import selection
    from parity.bundles.bundle import open_bundles
    from parity.certificates.certify import certify as make
    from pvt_spec.files.replacing import check_target, replacing

    require("rfc8785")
    check_target(output, chosen.force)
    chosen.check_files()
    files, bundles = open_bundles(models)
    pairs = selection.pair_up(files, chosen.runtime)
    own = selection.read_models(files)
    read = {path: selection.at_size(model, chosen.size) for path, model in own.items()}
    result, inputs = run_asked(pairs, read, bundles, emulate, chosen)
    data = make(result, own, bundles, inputs, chosen.terms).to_bytes()
    with replacing(output, chosen.force) as stream:
        stream.write(data)
    digest = hashlib.sha256(data).hexdigest()
    say(f"wrote {output} ({len(data):,} bytes, sha256 {digest})")
    chosen.tell(dataclasses.replace(result, certificate=digest))


@click.command(cls=Command)
@click.argument("certificate", type=PATH)
@click.argument("files", nargs=-1, required=True, type=PATH)
@click.option(
    "--rerun",
    is_flag=True,
    help="Also run them here as they were certified, as far as their runtimes are installed.",
)
@takes("images", "limit", "batch_size", "verbose", "as_json", "junit", "html", "force")
def verify(certificate: Path, files: tuple[Path, ...], rerun: bool, chosen: Chosen) -> None:
    """Say whether FILES are what a CERTIFICATE is about.

    A file is if it has the bytes of one that was certified, or holds the same weights, maths,
    labels and preprocessing in another container (and, of ONNX, a certified graph or the one that
    convert writes). Else what differs is named. Nothing is run, and no framework is needed.

    With --rerun this machine runs them on the same images, and says whether it gets the verdict;
    images that were files are to be given with --images. Exit code 0 if all of it holds, 1 if not.
    """
    from convert.certificates.record import read_certificate
    from parity.certificates.verify import describe, suites_of, verify_files
    from parity.report.data import encode_junit

    chosen.check_files()
    if not rerun and (chosen.html or chosen.images):
        raise click.UsageError("--images and --html go with --rerun")
    read = read_certificate(certificate)
    verified = verify_files(read, files)
    lines = [*describe(read, verified)]
    good = verified.good and read.certificate.claim.same
    found: dict[str, Any] = {}
    suites = [*suites_of(read, verified)]
    if rerun and good:
        found = _rerun(read, verified, chosen)
        lines += found.pop("lines")
        suites += found.pop("suites")
        good = found["same_verdict"]
    elif rerun:
        lines.append("not run again: that would say nothing of what was certified")
    if chosen.junit:
        chosen.write(chosen.junit, encode_junit(suites))
    if chosen.as_json:
        click.echo(encode_json({**_as_json(read, verified, good), **found}, indent=1))
    else:
        click.echo("\n".join(lines))
    if not good:
        raise click.exceptions.Exit(1)


def _as_json(read: "CertificateFile", verified: "Verified", good: bool) -> dict[str, Any]:
    return {
        "good": good,
        "certificate": {
            "file": str(read.path),
            "sha256": read.sha256,
            "same": read.certificate.claim.same,
        },
        "files": [
            {
                "file": str(each.path),
                "good": each.good,
                "same_bytes": each.file is not None,
                "changes": list(each.changes),
                "remarks": list(each.remarks),
            }
            for each in verified.standings
        ],
    }


def _rerun(read: "CertificateFile", verified: "Verified", chosen: Chosen) -> dict[str, Any]:
    """Runs what was certified once more; returns the lines for it, and what programs are told."""
    from parity.certificates import verify as verifying
    from parity.inputs.samples import Inputs
    from parity.report import text
    from parity.report.data import suite_of

    claim = read.certificate.claim
    plan = verifying.plan_rerun(claim, verified)
    for reason in plan.left_out:
        say(f"not run here: {reason}")
    first = next(iter(verified.models.values()))
    said = claim.inputs
    samples = verifying.certified_samples(said, first)
    if samples is None and not chosen.images:
        raise click.UsageError(
            f"{read.path} is of images that were {said.source}: give them with --images"
        )
    if samples is None or chosen.images:
        size = "x".join(map(str, said.image_size))
        given = dataclasses.replace(chosen, image_size=size, orientation=said.orientation)
        inputs = choose_inputs(given, first.info)
    else:
        inputs = Inputs(samples, said.image_size, chosen.batch_size, said.orientation)
    verifying.check_images(inputs, said, first)
    with progress_bar("images") as show:
        result, others = verifying.rerun(claim, verified, plan, inputs, show)
    result = dataclasses.replace(result, certificate=read.sha256)
    dataclasses.replace(chosen, junit=None).write_reports(result)
    lines = [*text.table(result, chosen.verbose)]
    lines.append(
        "; ".join(others) if others else "this machine gets the verdict that was certified"
    )
    told = {"same_verdict": not others, "not_run": list(plan.left_out), "lines": lines}
    return {**told, "suites": [*map(suite_of, result.comparisons)]}
