"""Weights files: found, read without running code, named by a digest, written; `fit.py` checks them."""

import hashlib
import json
import os
import pickle
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
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
COUNTER = "num_batches_tracked"
_WRAPPERS = ("state_dict", "model_state_dict", "model")
_DEEPEST = 3  # wrappers inside each other
_PREFIX = re.compile(r"^(module\.|_orig_mod\.)+")  # of DataParallel and torch.compile, in any order


@dataclass(frozen=True, eq=False)
class WeightsFile:
    """What a file holds: tensors by name, without the prefixes of DataParallel and torch.compile, and its provenance
    if it is one of ours, in which `backbone` is a name and `facts` a dictionary, if they are there."""

    path: Path
    tensors: dict[str, Tensor]
    provenance: dict[str, Any] = field(default_factory=dict)


def find_weights(weights: str, *, advice: str) -> Path:
    """The file named by `--weights`: as given, else inside the first folder of $MASTAF_WEIGHTS (a list like $PATH)
    that has it. ExtractError with `advice` if there is none."""
    tried = [Path(weights), *(folder / weights for folder in weight_folders())]
    for path in tried:
        if path.is_file():
            return path
    what = "is a folder, and must be a file" if tried[0].is_dir() else "must be a file"
    raise ExtractError(f"weights ({' or '.join(map(str, tried))}) {what}, or `random`; {advice}")


def weight_folders() -> list[Path]:
    """The folders that $MASTAF_WEIGHTS names, separated as in $PATH."""
    return [Path(part).expanduser() for part in os.environ.get("MASTAF_WEIGHTS", "").split(os.pathsep) if part]


@contextmanager
def advised(advice: str) -> Iterator[None]:
    """End the message of an ExtractError inside with `advice`: where to get the weights, and where to put them."""
    try:
        yield
    except ExtractError as error:
        if advice in str(error):
            raise
        raise ExtractError(f"{error}; {advice}") from error


def read_weights(path: Path) -> WeightsFile:
    """Read a safetensors file, or what torch.save wrote (bare, or wrapped as {'state_dict': ...}).

    Only tensors and plain values are unpickled: a file that holds code is refused before any of it runs.
    """
    with path.open("rb") as stream:
        head = stream.read(9)
    if head[8:9] == b"{":  # the length of the JSON header in 8 bytes, then the header
        return _read_safetensors(path)
    content: Any = _read_pickle(path)
    for _ in range(_DEEPEST):
        content = _unwrapped(content)
    tensors = {str(k): v for k, v in content.items() if isinstance(v, Tensor)} if isinstance(content, Mapping) else {}
    if not tensors:
        raise ExtractError(f"weights ({path}) must hold a state dict, but hold no tensors")
    return WeightsFile(path, _bare(tensors))


def _unwrapped(content: Any) -> Any:
    """The state dict inside a training checkpoint, or `content`."""
    inner = [content.get(key) for key in _WRAPPERS] if isinstance(content, Mapping) else []
    return next((found for found in inner if isinstance(found, Mapping)), content)


def _bare(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {_PREFIX.sub("", name): tensor for name, tensor in tensors.items()}


def _read_safetensors(path: Path) -> WeightsFile:
    try:
        with safe_open(path, framework="pt") as file:
            tensors = _bare({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
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


def some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def digest(state: Mapping[str, Tensor]) -> str:
    """sha256 (hex) of what was loaded: each tensor's name, shape and float32 bytes, by name, without step counters.

    So the same values are the same weights, whether the file was a pickle or safetensors, wrapped or bare, with or
    without a classifier, in float16 or widened to float32.
    """
    total = hashlib.sha256()
    for name in sorted(state):
        if not name.endswith(COUNTER):
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
        raise ExtractError(f"weights hold NaN or Inf as {dtype}, so {path} was not written: {some(broken)}")
    write_bytes(path, save(rounded, metadata={"mastaf": json.dumps(dict(provenance), sort_keys=True)}))
