"""Stage two: episodes, methods, training and evaluation on stored cubes."""
