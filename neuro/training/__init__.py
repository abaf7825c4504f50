"""Training of decoders: what a recipe holds, what a step sees and what it computes."""
