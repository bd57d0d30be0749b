"""Training runs in turns, so that those which draw the same episodes read them once."""

from collections.abc import Sequence
from contextlib import nullcontext

from ...cache.console import Progress
from .trainer import Trainer


def train_all(trainers: Sequence[Trainer], *, show_progress: bool = True) -> None:
    """Train every run to its end; those on one stream side by side, chunk by chunk.

    A run's weights are the same, bit for bit, whoever trains beside it.
    """
    groups: dict[int, list[Trainer]] = {}
    for trainer in trainers:
        groups.setdefault(id(trainer.stream), []).append(trainer)
    try:
        for group in groups.values():
            _train_group(group, show_progress)
    finally:
        for trainer in trainers:
            trainer.close()


def _train_group(group: list[Trainer], show_progress: bool) -> None:
    config = group[0].config
    what = f"train {group[0].folder.name}" + (f" and {len(group) - 1} more" if group[1:] else "")
    done = min(trainer.progress.episodes for trainer in group)
    shown = Progress(config.train_episodes, what, "episodes", done=done) if show_progress else None
    with shown or nullcontext() as bar:
        while active := [trainer for trainer in group if not trainer.done]:
            # Runs that continue from different places meet when the last one has caught up.
            start = min(trainer.progress.episodes for trainer in active)
            together = [trainer for trainer in active if trainer.progress.episodes == start]
            count = min(config.batch, config.train_episodes - start)
            said = _update(together, start, count)
            if bar is not None:
                bar.advance(count, said)


def _update(together: list[Trainer], start: int, count: int) -> str:
    """One update of each; where the last one stands."""
    for trainer in together:
        trainer.begin()
    for chunk in together[0].stream.chunks(start, count):
        for trainer in together:
            trainer.add(chunk, count)
        chunk.close()
    return [trainer.finish(count) for trainer in together][-1]
