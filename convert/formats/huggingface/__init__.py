"""Models as Hugging Face and timm keep them: a folder with ``config.json``."""
