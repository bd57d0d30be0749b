"""Errors of stage two."""


class FewShotError(ValueError):
    """Wrong usage or input: the message says what is wrong and what to do. Exit status 2."""

    exit_status = 2


class OtherRunError(FewShotError):
    """A folder holds a run of other settings."""


class FailedError(FewShotError):
    """A method that could be had failed at its work: numbers that are not finite, or a plug-in's own error."""
