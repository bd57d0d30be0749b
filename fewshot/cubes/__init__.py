"""The cubes of a split: where they stay, and how they reach episodes."""
