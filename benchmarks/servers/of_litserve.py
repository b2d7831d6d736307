"""LitServe with a model in it, as its documentation has it.

    PYTHON benchmarks/servers/of_litserve.py model.onnx PORT

It has no binary requests: tensors come in base64 in JSON. One process has the model, with one
thread, another answers.
"""

import sys
from base64 import b64decode
from typing import Any

import litserve
import numpy as np
import onnxruntime


class Api(litserve.LitAPI):
    """The file in a session with one thread, which does not spin."""

    def __init__(self, path: str):
        super().__init__(api_path="/v2/models/model/infer")
        self._path = path

    def setup(self, device: str) -> None:
        """Opens it."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(self._path, options)

    def decode_request(self, request):  # types would say how FastAPI reads it
        """Returns a request's images."""
        images = np.frombuffer(b64decode(request["images"]), np.float32)
        return images.reshape(request["shape"])

    def predict(self, x: Any) -> Any:
        """Answers images."""
        return self._session.run(["logits"], {"images": x})[0]

    def encode_response(self, output):
        """Returns what is answered."""
        return {"logits": output.tolist()}


if __name__ == "__main__":
    server = litserve.LitServer(Api(sys.argv[1]), accelerator="cpu", workers_per_device=1)
    server.run("127.0.0.1", int(sys.argv[2]), log_level="warning", generate_client_file=False)
