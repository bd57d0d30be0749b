"""Fine-tuning of backbones on the base classes: recipes, one loop that trains them, and what comes out."""

# Name -> what is trained. The recipes are the functions of by_classes.py, by_episodes.py and by_tail.py.
RECIPES = {
    "classify": "the backbone, by cross-entropy over the base classes",
    "episodic": "backbone and few-shot head together, by the head's loss on episodes",
    "tail": "the stages after a stored one and a head, from cubes, with nothing decoded",
}
