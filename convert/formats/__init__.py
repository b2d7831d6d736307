"""File formats: one module or folder each, with the same verbs ``read`` and ``write``."""
