"""The runtimes that can be compared, and what opens each."""
