"""What KServe is told: an ``InferenceService`` that serves a whole repository.

Source: KServe's documentation, "Deploy InferenceService with ONNX model": it finds its Triton by
format and protocol.
"""

import re

from pvt_spec.errors import PvtError
from pvt_spec.files.json_text import encode_json
from pvt_spec.words import show

MANIFEST = "inference-service.yaml"
"""The manifest's file, in the repository."""

_NAME = re.compile("[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*://\S+")


def write_manifest(name: str, uri: str) -> str:
    """Returns the manifest in YAML.

    Args:
        name: What the service is called: a name of Kubernetes.
        uri: Where the repository will be when it is served: ``s3://…``, ``gs://…``, ``pvc://…``.

    Raises:
        PvtError: One of them is none.
    """
    check_manifest(name, uri)
    return (
        "apiVersion: serving.kserve.io/v1beta1\n"
        "kind: InferenceService\n"
        "metadata:\n"
        f"  name: {encode_json(name)}\n"
        "spec:\n"
        "  predictor:\n"
        "    model:\n"
        "      modelFormat:\n"
        "        name: onnx\n"
        "      protocolVersion: v2\n"
        f"      storageUri: {encode_json(uri)}\n"
    )


def check_manifest(name: str, uri: str) -> None:
    """Refuses what KServe would, before any work.

    Raises:
        PvtError: The name or the place is none.
    """
    if not _NAME.fullmatch(name):
        raise PvtError(
            f"{show(name)} cannot be a service of KServe, whose names are of a to z, 0 to 9 and "
            "-, and begin with a letter: name DST so"
        )
    if not _SCHEME.fullmatch(uri):
        raise PvtError(f"--kserve {show(uri)}: expected where DST will be, as in s3://bucket/DST")
