"""The Open Inference Protocol, version 2: bytes to what they mean, and back, without sockets."""
