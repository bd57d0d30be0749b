"""Which videos an episode holds, lists of episodes, and their files."""
