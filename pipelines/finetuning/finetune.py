"""Fine-tuning a backbone on the base classes: one of three recipes, trained by one loop, in a folder that a killed run
continues from. Test classes are never seen."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_args

from ...cache.console import unknown_name
from ..errors import PipelineError
from . import RECIPES


def finetune(*, recipe: str = "classify", **options: Any) -> dict[str, Any]:
    """Fine-tune, or continue the run of the same options that is in `out`, and write into it `backbone.safetensors`,
    whose provenance is also `finetune.json`, `metrics.jsonl`, and for the episodic recipes `head/`, a run that
    `mastaf-fewshot evaluate --checkpoint` takes.

    options: of `tune_by_classes`, `tune_by_episodes` or `tune_tail`. Returns a summary of plain values. Raises
    PipelineError, ExtractError, FewShotError or CacheError on wrong input.
    """
    refuse_unknown([recipe], options)
    return _recipe(recipe)(**options_of(recipe, options))


def refuse_unknown(recipes: Sequence[str], options: Mapping[str, Any]) -> None:
    """Raise PipelineError for a recipe that there is not, and for an option that none of these recipes takes."""
    for recipe in recipes:
        if recipe not in RECIPES:
            raise PipelineError(unknown_name("recipe", recipe, RECIPES))
    for name, value in options.items():
        others = [other for other in RECIPES if name in _keywords(_recipe(other))]
        if value is not None and not set(others) & set(recipes):
            where = f"belongs to --recipe {' and '.join(others)}" if others else "is no option of mastaf finetune"
            raise PipelineError(f"{name} ({value}) {where}; leave it out with --recipe {','.join(recipes)}")


def options_of(recipe: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Those that a recipe takes."""
    known = _keywords(_recipe(recipe))
    return {name: value for name, value in options.items() if name in known}


def _recipe(name: str) -> Callable[..., dict[str, Any]]:
    from .by_classes import tune_by_classes
    from .by_episodes import tune_by_episodes
    from .by_tail import tune_tail

    return {"classify": tune_by_classes, "episodic": tune_by_episodes, "tail": tune_tail}[name]


def _keywords(run: Callable[..., Any]) -> set[str]:
    """Names of the keyword arguments that a recipe takes."""
    (asked,) = get_args(run.__annotations__["asked"])  # of Unpack[...]
    return {*(run.__kwdefaults__ or ()), *asked.__annotations__}
