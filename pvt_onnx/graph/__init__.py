"""The spec and weights become an ONNX graph, with no framework and no tracing."""
