"""The Hugging Face hub through its own client: what may go wrong there, each as one line."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

# What the hub's client sends requests with, by its version. It lets a connection that breaks off through as it is.
_TRANSPORTS = ("httpx", "httpx2")


def fetch_snapshot(
    repo: str, revision: str | None, patterns: Sequence[str], *, raising: type[Exception], mend: str, without: str
) -> Path:
    """The local snapshot of a repository's files of these patterns; from the hub's cache on this machine where the
    network is away.

    raising: the error of one line; mend: where a wrong revision stands; without: what to do without a network.
    """
    from huggingface_hub import snapshot_download

    at = f"'{repo}' at revision '{revision}'" if revision else f"'{repo}'"
    told = {"raising": raising, "mend": mend, "failed": "could not be fetched from the hub", "without": without}
    with _quiet_in_files(), hub_errors(at, **told):
        return Path(snapshot_download(repo, revision=revision, allow_patterns=list(patterns)))


@contextmanager
def _quiet_in_files() -> Iterator[None]:
    """The client's progress bars are for a terminal alone."""
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    if sys.stderr.isatty() or are_progress_bars_disabled():
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()


@contextmanager
def hub_errors(at: str, *, raising: type[Exception], mend: str, failed: str, without: str) -> Iterator[None]:
    """Turn what the hub or the way to it refuse into `raising`; `at`: the repository, `failed`: what did not work."""
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        yield
    except GatedRepoError as error:
        raise raising(f"{at} is gated: accept its licence on its page of the hub, then run `hf auth login`") from error
    except RevisionNotFoundError as error:
        raise raising(f"{at} is not on the hub: it has no such branch, tag or commit; mend {mend}") from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise raising(
            f"{at} is not on the hub, or private; check the name, or run `hf auth login` if it is yours"
        ) from error
    except Exception as error:
        expected = isinstance(error, LocalEntryNotFoundError | HfHubHTTPError | OSError)
        if not expected and type(error).__module__.partition(".")[0] not in _TRANSPORTS:
            raise
        raise raising(f"{at} {failed} ({_reason(error)}); {without}") from error


def _reason(error: Exception) -> str:
    """The first line of the innermost cause: the library wraps what the network said."""
    while error.__cause__ is not None and isinstance(error.__cause__, Exception):
        error = error.__cause__
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
