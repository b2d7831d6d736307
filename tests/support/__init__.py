"""What several test modules need: models, files, runs, processes."""
