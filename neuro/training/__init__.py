"""Training: what a recipe holds, what a step sees, what it computes, and the loop that any training shares."""
