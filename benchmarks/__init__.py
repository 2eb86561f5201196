"""What lightmill costs, always as a ratio of things measured side by side in one run."""
