"""What MindSpore reads from the environment, set before it is used."""

import os
import platform
from importlib.util import find_spec

from pvt_spec import PvtError


def prepare_environment() -> None:
    """Sets up this process for MindSpore, leaving what the user has set.

    - Its log shows errors only: its warnings at start-up are about itself.
    - On x86, oneDNN stays at AVX2. Where there is AVX-512, the oneDNN in MindSpore 2.10 runs plain
      convolutions in its reference code ("ref:any" under ``ONEDNN_VERBOSE=1``), with which any PVT
      takes three times as long.

    Raises:
        PvtError: MindSpore is not installed.
    """
    if find_spec("mindspore") is None:
        raise PvtError("MindSpore is not installed: pip install 'mindspore>=2.10,<2.11'")
    os.environ.setdefault("GLOG_v", "3")
    if platform.machine() in ("x86_64", "AMD64"):
        os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX2")
