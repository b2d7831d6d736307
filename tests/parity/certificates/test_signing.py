"""OpenSSF's model-signing over a certificate, by the commands of the document."""

import re
import subprocess
from pathlib import Path

import pytest

from tests.support.processes import ROOT

DOCUMENT = ROOT / "docs/howto/certificates.md"


@pytest.mark.long
def test_a_certificate_is_signed_and_a_changed_one_found_out(certified, tmp_path):
    (block,) = re.findall(
        r"```\{not-run\}[^\n]*\n([^`]*model_signing[^`]*)```", DOCUMENT.read_text()
    )
    path: Path = tmp_path / "port.json"
    path.write_bytes(certified[1].read_bytes())

    def run(commands: str) -> subprocess.CompletedProcess[str]:
        script = ["bash", "-euo", "pipefail", "-c", commands]
        return subprocess.run(script, cwd=tmp_path, capture_output=True, text=True, check=False)

    done = run(block)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "port.sig").exists()
    path.write_bytes(path.read_bytes().replace(b'"same":true', b'"same":false'))
    verify = next(line for line in block.splitlines() if " verify " in line)
    done = run(verify)
    assert done.returncode != 0 and "mismatch" in (done.stdout + done.stderr).lower()
