"""What a model answers, in any runtime: classes, probabilities, accuracy."""
