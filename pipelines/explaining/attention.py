"""A head's scores and attention maps of one episode."""

import numpy as np
import torch

from ...fewshot.episodes.episode import Episode
from ...fewshot.episodes.randomness import EpisodeRandom
from ...fewshot.head import Head, variant_name
from ...fewshot.methods import METHODS
from ...fewshot.methods.base import Method
from ...fewshot.methods.registry import load_method
from ..errors import PipelineError

# The head that is shown where none is named: it has maps, and nothing to train.
UNTRAINED = {"meta_learner": False}
UNTRAINED_WORDS = (
    "no head is named: MASTAF without its meta-learner, which needs no training (--checkpoint gives another)"
)


def attend(
    method: Method, name: str, episode: Episode, random: EpisodeRandom
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Logits float32 [q, way], and maps by name (see `Explanation`), of the first episode of a batch.

    Raises PipelineError for a head that has no maps, naming those that have.
    """
    method.eval()
    with torch.no_grad():
        maps = {name: map_[0].float().cpu().numpy() for name, map_ in method.attention(episode).items()}
        if not maps:
            raise no_maps(name, method)
        logits = method.score(episode, random)[0].float().cpu().numpy()  # [q, way]
    if not np.isfinite(logits).all() or not all(np.isfinite(map_).all() for map_ in maps.values()):
        raise PipelineError("scores or maps of the episode are not finite; the weights are unusable, train again")
    return logits, maps


def methods_with_maps() -> list[str]:
    """Names of the table whose heads have maps, at least in one variant."""
    return [name for name in METHODS if _may_have_maps(name)]


def require_maps(name: str) -> None:
    """Raise PipelineError for a method that has no maps whatever its weights: before anybody trains it for them."""
    if not _may_have_maps(name):
        raise no_maps(name)


def _may_have_maps(name: str) -> bool:
    return load_method(name).attention is not Method.attention


def no_maps(name: str, method: Method | None = None) -> PipelineError:
    """The error for a head that has nothing to show."""
    variant = None if method is None else variant_name(method.describe())
    called, others = f"'{name}' ({variant})" if variant else f"'{name}'", ", ".join(methods_with_maps())
    return PipelineError(f"method {called} has no attention maps to show; methods that have some: {others}")


def head_words(head: Head) -> str:
    """The head in words: `mastaf (full), trained on 5-way 1-shot episodes, seed 0`."""
    variant = variant_name(head.method.describe())
    words = f"{head.name} ({variant})" if variant else head.name
    return f"{words}, trained on {head.way}-way {head.shot}-shot episodes, seed {head.seed}" if head.weights else words
