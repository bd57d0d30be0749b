"""When workers die all the time, it is not the videos."""

from ...cache.errors import StoppedError


class Deaths:
    """Counts workers that died in a row without any progress in between: then it is not the videos."""

    def __init__(self, workers: int) -> None:
        self._most, self._in_a_row = 8 + 2 * workers, 0

    def one_more(self, why: str) -> None:
        """A worker died. StoppedError when that happens all the time."""
        self._in_a_row += 1
        if self._in_a_row >= self._most:
            raise StoppedError(
                f"{self._in_a_row} workers died one after another and no shard was finished in between ({why}); see "
                "whether memory is short or a driver is broken, and run the same command again to continue"
            )

    def progress(self) -> None:
        """A shard was committed, or one more of its videos was found to kill workers."""
        self._in_a_row = 0
