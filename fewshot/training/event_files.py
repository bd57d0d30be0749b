"""The metrics of a run as TensorBoard event files; the JSON lines stay what a run continues from."""

from collections.abc import Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Any

from ...cache.extras import require_extra

EVENTS_FOLDER = "tensorboard"
_TAGS = {"loss": "loss", "lr": "lr", "train_accuracy": "accuracy/train", "val_accuracy": "accuracy/val"}


def require_tensorboard() -> None:
    """Raise CacheError without the extra `tensorboard`."""
    require_extra("tensorboard", extra="tensorboard", wanted_by="--tensorboard")


class EventFiles(AbstractContextManager["EventFiles"]):
    """Writes `FOLDER/tensorboard`: the metrics lines that are there, then each that is added.

    The files of an earlier session are replaced, because lines beyond the state that a run continues from are gone.
    """

    def __init__(self, folder: Path, lines: Iterable[dict[str, Any]]) -> None:
        from torch.utils.tensorboard import SummaryWriter

        target = folder / EVENTS_FOLDER
        for old in target.glob("events.out.tfevents.*"):
            old.unlink()
        self._writer = SummaryWriter(str(target))
        for line in lines:
            self.add(line)

    def add(self, line: dict[str, Any]) -> None:
        """Write one metrics line, to be seen at once."""
        for name, tag in _TAGS.items():
            # A line of an older version may lack a number; nothing is selected on val without val classes.
            if line.get(name) is not None:
                self._writer.add_scalar(tag, line[name], line["episodes"])
        self._writer.flush()

    def close(self) -> None:
        """Close the file."""
        self._writer.close()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
