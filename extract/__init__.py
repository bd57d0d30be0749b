"""Stage one: from videos to feature cubes."""
