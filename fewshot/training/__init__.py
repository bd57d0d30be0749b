"""One training run: its settings, updates, and the state from which it continues."""
