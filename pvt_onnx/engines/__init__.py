"""What runs a graph: onnxruntime, OpenVINO, ONNX's own evaluator."""
