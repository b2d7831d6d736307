"""A run: its loop, folder, log, state, signals and plot."""
