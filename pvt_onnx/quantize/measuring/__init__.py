"""What images tell of a model: ranges of its values, what int8 keeps of its answers, what costs."""
