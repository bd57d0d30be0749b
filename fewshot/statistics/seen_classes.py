"""Classes that are scored although training has seen them, which a run on one store and a test on another may meet."""

from ..cubes.bank import FeatureBank
from ..errors import FewShotError
from ..head import Head


def require_unseen(head: Head, bank: FeatureBank, *, allow: bool = False) -> list[str]:
    """The bank's classes that the head was trained on, by name. Raises FewShotError unless there are none, or `allow`.

    Data sets share classes under one name: nine test classes of ssv2-otam are train classes of ssv2-cmn.
    """
    if bank.split == "train":
        return []  # the score of a train split promises nothing about new classes
    trained = {_folded(name) for name in head.train_class_ids}
    seen = [name for name in bank.class_names if _folded(name) in trained]
    if seen and not allow:
        shown = ", ".join(f"'{name}'" for name in seen[:3]) + (", ..." if len(seen) > 3 else "")
        raise FewShotError(
            f"the run was trained on {len(seen)} of the {len(bank.class_names)} {bank.split} classes of "
            f"{bank.store.path} ({shown}), so its score would not be one of new classes; test on another store, or add "
            "--allow-seen-classes, which the record then says"
        )
    return seen


def _folded(name: str) -> str:
    """A class's name as two data sets may share it: `PlayingGuitar`, `playing guitar`."""
    return "".join(letter for letter in name.casefold() if letter.isalnum())
