"""Models: canonical weights and ModelInfo, read from any file, changed and written."""
