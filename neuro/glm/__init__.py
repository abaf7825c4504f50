"""Single-trial betas from BOLD runs: response shapes, designs, solutions, choices by cross-validation. Arrays only."""
