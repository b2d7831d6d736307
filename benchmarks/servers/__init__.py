"""Other people's servers of the same file, each run by a Python that has it; see ``serving.py``."""
