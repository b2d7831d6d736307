"""How quick a model is in one runtime after another, in turn: measured, and reported."""
