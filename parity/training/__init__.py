"""Whether both twins make the same training step."""
