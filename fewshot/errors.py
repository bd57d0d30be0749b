"""Errors of stage two."""


class FewShotError(ValueError):
    """Wrong usage or input: the message says what is wrong and what to do. Exit status 2."""

    exit_status = 2


class OtherRunError(FewShotError):
    """A folder holds a run of other settings."""
