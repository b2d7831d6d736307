"""KServe's own server with a model in it, as its documentation has it.

    PYTHON benchmarks/servers/of_kserve.py model.onnx PORT

It takes binary tensors of the Open Inference Protocol, and here has one thread.
"""

import sys
from typing import Any

import kserve
import onnxruntime


class Model(kserve.Model):
    """The file in a session with one thread, which does not spin."""

    def __init__(self, path: str):
        super().__init__("model")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(path, options)
        self.ready = True

    def predict(self, payload: Any, headers: Any = None, response_headers: Any = None) -> Any:
        """Answers a request."""
        images = payload.inputs[0].as_numpy()
        (logits,) = self._session.run(["logits"], {"images": images})
        output = kserve.InferOutput("logits", [*logits.shape], "FP32")
        output.set_data_from_numpy(logits, binary_data=True)
        return kserve.InferResponse(payload.id or "0", self.name, [output])


if __name__ == "__main__":
    server = kserve.ModelServer(http_port=int(sys.argv[2]), enable_grpc=False, workers=1)
    server.start([Model(sys.argv[1])])
