"""Errors of the store, and the exit status that a command line gives for each."""


class CacheError(ValueError):
    """Wrong usage or input: the message says what is wrong and what to do. Exit status 2."""

    exit_status = 2


class SpecMismatchError(CacheError):
    """Two stores, or a store and a checkpoint, were not made by the same recipe; each differing field is named."""


class MissingRowsError(CacheError):
    """Rows were asked for that no record vouches for (not extracted yet, or failed)."""


class CorruptStoreError(CacheError):
    """A file of the store is damaged, or is not a store at all."""


class StoppedError(OSError):
    """The machine stopped the run (disk full, lock held, device lost): run again to continue. Exit status 75."""

    exit_status = 75
