"""How many queries an episode has, in training and when it is scored."""

from ..errors import FewShotError
from ..methods.base import Method


def training_queries(name: str, method: Method, query_mode: str | None, queries: int | None) -> tuple[str, int]:
    """Query mode and queries of training episodes: what was asked for, else what the method was published with.

    Raises FewShotError where that is less than the method needs.
    """
    mode, each = method.training_queries()
    if query_mode not in (None, mode):
        mode, each = str(query_mode), 1
    each = queries or each
    needs = method.needs
    if needs.query_mode == "per_class" and mode != "per_class":
        raise FewShotError(
            f"query_mode ('{mode}') must be 'per_class' for {name}, whose loss compares queries of all classes; "
            "leave --query-mode out"
        )
    if mode == needs.query_mode and each < needs.queries:
        raise FewShotError(f"queries ({each}) must be at least {needs.queries} for {name}; leave --queries out")
    return mode, each


def scored_queries(method: Method, query_mode: str, queries: int) -> tuple[str, int]:
    """Query mode and queries of the episodes that score a method which was trained with these.

    Those of its training where somebody asked for them; else a single query, so that heads which are published with
    different training episodes are scored on the same list.
    """
    return ("single", 1) if (query_mode, queries) == method.training_queries() else (query_mode, queries)


def refuse_episodic(name: str, **given: object) -> None:
    """Raise FewShotError for settings of episodic training, for a method that is trained otherwise."""
    names = [f"--{option.replace('_', '-')}" for option, value in given.items() if value is not None]
    if names:
        raise FewShotError(f"{name} is not trained by episodes; leave {', '.join(names)} out")
