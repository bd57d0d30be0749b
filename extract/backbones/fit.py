"""A weights file against a network: what fits becomes its state dict, what does not is named."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ..errors import ExtractError
from .looks_like import looks_like
from .weights import COUNTER, WeightsFile, advised, find_weights, read_weights, some


def load_weights(
    weights: str, like: Mapping[str, Tensor], *, backbone: str, advice: str, ignored: Sequence[str] = ()
) -> tuple[WeightsFile, dict[str, Tensor]]:
    """The file that `weights` names, and its tensors as a state dict for a network like `like`: see `find_weights`,
    `read_weights`, `fit_state`. Every ExtractError ends with `advice`: where to get the file, and where to put it."""
    with advised(advice):
        file = read_weights(find_weights(weights, advice=advice))
        return file, fit_state(file, like, backbone=backbone, ignored=ignored)


def fit_state(
    file: WeightsFile,
    like: Mapping[str, Tensor],
    *,
    backbone: str,
    ignored: Sequence[str] = (),
) -> dict[str, Tensor]:
    """The file's tensors as a float32 state dict for a network whose own state dict is `like` (may be meta).

    ignored: prefixes of entries that the network does without (a classifier). ExtractError naming missing and
    unexpected entries, other shapes, which network the file looks like, tensors that are not plain floating-point
    ones, and NaN or Inf.
    """
    made_for = file.provenance.get("backbone", backbone)
    if made_for != backbone:
        raise ExtractError(
            f"weights ({file.path}) are of backbone '{made_for}', not '{backbone}'; use --backbone {made_for}"
        )
    given = {name: tensor for name, tensor in file.tensors.items() if not name.startswith(tuple(ignored))}
    wrong = _differences(given, like)
    if wrong:
        raise ExtractError(
            f"weights ({file.path}) do not fit backbone '{backbone}': {'; '.join(wrong)}; the file looks like "
            f"{looks_like(file.tensors)}"
        )
    state = {
        name: given[name].to(wanted.dtype) if name in given else torch.zeros(wanted.shape, dtype=wanted.dtype)
        for name, wanted in like.items()
    }
    broken = [name for name, tensor in state.items() if not torch.isfinite(tensor).all()]
    if broken:
        raise ExtractError(f"weights ({file.path}) must be finite, but hold NaN or Inf: {some(broken)}")
    return state


def _differences(given: Mapping[str, Tensor], like: Mapping[str, Tensor]) -> list[str]:
    missing = [name for name in like if name not in given and not name.endswith(COUNTER)]
    unexpected = [name for name in given if name not in like]
    shapes = [
        f"{name} is {tuple(given[name].shape)}, not {tuple(like[name].shape)}"
        for name in like
        if name in given and given[name].shape != like[name].shape
    ]
    counted = [name for name in like if name in given and not name.endswith(COUNTER)]
    kinds = [name for name in counted if not _is_plain(given[name], like[name])]
    lists = (
        ("missing", missing),
        ("unexpected", unexpected),
        ("of another shape", shapes),
        ("no dense floating-point tensors", kinds),
    )
    return [f"{len(names)} {what} ({some(names)})" for what, names in lists if names]


def _is_plain(tensor: Tensor, like: Tensor) -> bool:
    """Whether it holds real numbers, one for each place, and whole ones only where the network has them too: integers
    in place of weights would be a quantised network's codes."""
    kind = tensor.is_floating_point() == like.is_floating_point() and not tensor.is_complex()
    return kind and tensor.layout == torch.strided and tensor.device.type == "cpu"
