"""``pvt-onnx repository``: models as Triton, OpenVINO Model Server and KServe load them."""
