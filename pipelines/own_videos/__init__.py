"""Few-shot classification of people's own videos: classes enrolled from a few clips each, and clips classified.

The way in is `classifier.FewShotClassifier`; `mastaf enrol` and `mastaf classify` are it on the command line.
"""
