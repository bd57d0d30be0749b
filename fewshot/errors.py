"""Errors of stage two."""


class FewShotError(ValueError):
    """Wrong usage or input: the message says what is wrong and what to do. Exit status 2."""

    exit_status = 2
