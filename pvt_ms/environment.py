"""What MindSpore reads from the environment, set before it is used."""

import os
import platform

from pvt_packages import require


def prepare_environment() -> None:
    """Sets up this process for MindSpore, leaving what the user has set.

    It is called before the commands import MindSpore, and with every export of ``pvt_ms``; once
    is as good as often. Programs that import MindSpore before, or modules of ``pvt_ms`` by name,
    may call it first.

    - Its log shows errors only: its warnings at start-up are about itself.
    - On x86, oneDNN stays at AVX2. Where there is AVX-512, the oneDNN in MindSpore 2.10 runs plain
      convolutions in its reference code ("ref:any" under ``ONEDNN_VERBOSE=1``), with which any PVT
      takes three times as long.

    Raises:
        LibraryMissing: It is not installed.
    """
    require("mindspore")
    os.environ.setdefault("GLOG_v", "3")
    if platform.machine() in ("x86_64", "AMD64"):
        os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX2")
