"""Training images: read, augmented, mixed and handed over in batches."""
