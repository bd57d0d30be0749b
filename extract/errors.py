"""Errors of stage one."""


class ExtractError(ValueError):
    """Wrong usage or input: the message says what is wrong and what to do. Exit status 2."""

    exit_status = 2


class VideoError(ExtractError):
    """One video cannot be used. Extraction makes it a failed row with this reason and goes on.

    seen: the video's `fingerprint` when it was read, '' where nothing was.
    """

    seen = ""
