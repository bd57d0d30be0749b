"""Classes of your own from a few clips each, and new clips classified, in Python.

    python examples/classify.py my_classes/ new_clips/

`my_classes/` holds a folder for each class, with one clip or more; `new_clips/` any videos. What `mastaf enrol` and
`mastaf classify` do.
"""

import sys
from pathlib import Path

from mastaf.pipelines.own_videos.classifier import FewShotClassifier


def main(support: Path, clips: Path, out: Path) -> None:
    """Enrol the classes in `support`, keep them in the file `out`, and classify the videos in `clips`."""
    classifier = FewShotClassifier.enrol(support)
    classifier.save(out)
    for answer in FewShotClassifier.load(out).classify(clips):
        if answer.error:
            print(f"{answer.path}: {answer.error}")
        elif answer.probability is None:  # one clip of a class alone: nothing says what a score means
            print(f"{answer.path}: {answer.label}, score {answer.score:.2f}")
        else:
            print(f"{answer.path}: {answer.label or 'none of the classes'} ({answer.probability:.0%})")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]), Path("my.classes"))
