"""``pvt-onnx serve``: models over HTTP, in the words of the Open Inference Protocol, version 2."""
