"""Weights files: found, read without running code, checked against a network, named by a digest, written."""

import hashlib
import json
import os
import pickle
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ...cache.atomic import write_bytes
from ..errors import ExtractError

# A counter of training steps, which no output depends on and old files lack.
_COUNTER = "num_batches_tracked"
_WRAPPERS = ("state_dict", "model_state_dict", "model")


@dataclass(frozen=True, eq=False)
class WeightsFile:
    """What a file holds: tensors by name, `module.` prefix stripped, and its provenance if it is one of ours, in
    which `backbone` is a name and `facts` a dictionary, if they are there."""

    path: Path
    tensors: dict[str, Tensor]
    provenance: dict[str, Any] = field(default_factory=dict)


def find_weights(weights: str, *, advice: str) -> Path:
    """The file named by `--weights`: as given, else inside $MASTAF_WEIGHTS. ExtractError with `advice` if neither."""
    folder = os.environ.get("MASTAF_WEIGHTS")
    tried = [Path(weights)] + ([Path(folder) / weights] if folder else [])
    for path in tried:
        if path.is_file():
            return path
    raise ExtractError(f"weights ({' or '.join(map(str, tried))}) must be a file, or `random`; {advice}")


def read_weights(path: Path) -> WeightsFile:
    """Read a safetensors file, or what torch.save wrote (bare, or wrapped as {'state_dict': ...}).

    Only tensors and plain values are unpickled: a file that holds code is refused before any of it runs.
    """
    with path.open("rb") as stream:
        head = stream.read(9)
    if head[8:9] == b"{":  # the length of the JSON header in 8 bytes, then the header
        return _read_safetensors(path)
    content: Any = _read_pickle(path)
    for key in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
            break
    tensors = {str(k): v for k, v in content.items() if isinstance(v, Tensor)} if isinstance(content, Mapping) else {}
    if not tensors:
        raise ExtractError(f"weights ({path}) must hold a state dict, but hold no tensors")
    return WeightsFile(path, {name.removeprefix("module."): tensor for name, tensor in tensors.items()})


def _read_safetensors(path: Path) -> WeightsFile:
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name.removeprefix("module."): file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            provenance = json.loads((file.metadata() or {}).get("mastaf", "{}"))
    except (SafetensorError, ValueError, RecursionError) as error:
        raise ExtractError(f"weights ({path}) must be a whole safetensors file: {_first_line(error)}") from error
    if not _is_provenance(provenance):
        raise ExtractError(f"weights ({path}) must say where they come from as `mastaf finetune` does; get them anew")
    return WeightsFile(path, tensors, provenance)


def _is_provenance(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and isinstance(value.get("facts", {}), dict)
        and isinstance(value.get("backbone", ""), str)
    )


def _read_pickle(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "Unsupported" in str(error) or "GLOBAL" in str(error):
            raise ExtractError(
                f"weights ({path}) must hold tensors only, but the file is a pickle with code in it, so it was "
                "refused unread; get a state dict or a safetensors file from a source you trust"
            ) from error
        raise ExtractError(f"weights ({path}) must be a file of torch.save or safetensors, and are neither") from error
    except (RuntimeError, EOFError, ValueError, KeyError, IndexError, AttributeError, TypeError) as error:
        raise ExtractError(f"weights ({path}) are damaged or no weights at all: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def fit_state(
    file: WeightsFile,
    like: Mapping[str, Tensor],
    *,
    backbone: str,
    ignored: Sequence[str] = (),
    describe: Callable[[Mapping[str, Tensor]], str] | None = None,
    remedy: str = "",
) -> dict[str, Tensor]:
    """The file's tensors as a float32 state dict for a network whose own state dict is `like` (may be meta).

    ignored: prefixes of entries that the network does without (a classifier); describe: says in words which
    network the tensors look like. ExtractError naming missing and unexpected entries, other shapes, tensors that
    are not plain floating-point ones, and NaN or Inf.
    """
    made_for = file.provenance.get("backbone", backbone)
    if made_for != backbone:
        raise ExtractError(
            f"weights ({file.path}) are of backbone '{made_for}', not '{backbone}'; use --backbone {made_for}"
        )
    given = {name: tensor for name, tensor in file.tensors.items() if not name.startswith(tuple(ignored))}
    wrong = _differences(given, like)
    if wrong:
        seen = f"; the file looks like {describe(file.tensors)}" if describe else ""
        raise ExtractError(f"weights ({file.path}) do not fit backbone '{backbone}': {'; '.join(wrong)}{seen}{remedy}")
    state = {
        name: given[name].to(wanted.dtype) if name in given else torch.zeros(wanted.shape, dtype=wanted.dtype)
        for name, wanted in like.items()
    }
    broken = [name for name, tensor in state.items() if not torch.isfinite(tensor).all()]
    if broken:
        raise ExtractError(f"weights ({file.path}) must be finite, but hold NaN or Inf: {_some(broken)}")
    return state


def _differences(given: Mapping[str, Tensor], like: Mapping[str, Tensor]) -> list[str]:
    missing = [name for name in like if name not in given and not name.endswith(_COUNTER)]
    unexpected = [name for name in given if name not in like]
    shapes = [
        f"{name} is {tuple(given[name].shape)}, not {tuple(like[name].shape)}"
        for name in like
        if name in given and given[name].shape != like[name].shape
    ]
    kinds = [name for name in like if name in given and not name.endswith(_COUNTER) and not _is_plain(given[name])]
    lists = (
        ("missing", missing),
        ("unexpected", unexpected),
        ("of another shape", shapes),
        ("no dense floating-point tensors", kinds),
    )
    return [f"{len(names)} {what} ({_some(names)})" for what, names in lists if names]


def _is_plain(tensor: Tensor) -> bool:
    """Whether it holds real numbers, one for each place (integers would be a quantised network's codes)."""
    return tensor.is_floating_point() and tensor.layout == torch.strided and tensor.device.type == "cpu"


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def digest(state: Mapping[str, Tensor]) -> str:
    """sha256 (hex) of what was loaded: each tensor's name, shape and float32 bytes, by name, without step counters.

    So the same values are the same weights, whether the file was a pickle or safetensors, wrapped or bare, with or
    without a classifier, in float16 or widened to float32.
    """
    total = hashlib.sha256()
    for name in sorted(state):
        if not name.endswith(_COUNTER):
            values = state[name].detach().to("cpu", torch.float32).contiguous()
            total.update(f"{name} {tuple(values.shape)}\n".encode())
            total.update(values.numpy().astype("<f4", copy=False).data)
    return total.hexdigest()


def write_weights(
    path: Path, state: Mapping[str, Tensor], *, provenance: Mapping[str, Any], dtype: torch.dtype = torch.float32
) -> None:
    """Write a state dict and its provenance (plain JSON values, `backbone` among them) as safetensors, whole or not."""
    rounded = {
        name: tensor.detach().to("cpu", dtype if tensor.is_floating_point() else tensor.dtype).contiguous()
        for name, tensor in state.items()
    }
    broken = [name for name, tensor in rounded.items() if not torch.isfinite(tensor).all()]
    if broken:
        raise ExtractError(f"weights hold NaN or Inf as {dtype}, so {path} was not written: {_some(broken)}")
    write_bytes(path, save(rounded, metadata={"mastaf": json.dumps(dict(provenance), sort_keys=True)}))
