"""Fine-tuning of backbones on the base classes: recipes, one loop that trains them, and what comes out."""
