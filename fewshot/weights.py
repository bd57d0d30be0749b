"""Tensors on disk: safetensors with a JSON header, written whole or not at all; pickles are never read."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from ..cache.atomic import write_bytes
from .errors import FewShotError

PICKLES = (".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".bin")


def write_tensors(path: Path, tensors: Mapping[str, Tensor], note: dict[str, Any]) -> None:
    """Write tensors and a JSON note (plain values; floats keep every bit) as one safetensors file."""
    # A copy each: safetensors refuses tensors that share memory or are not contiguous.
    ready = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    write_bytes(path, save(ready, metadata={"mastaf": json.dumps(note, allow_nan=False)}))


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors on the CPU, and the note. Raises FewShotError for a pickle, unread, and for a damaged file."""
    if path.suffix.lower() in PICKLES:
        raise FewShotError(
            f"{path} is a pickle by its suffix, which can run code when it is read, so it is refused unread; "
            "mastaf reads safetensors: give the folder that train wrote"
        )
    data = path.read_bytes()
    try:
        return load(data), _note(data)
    except (SafetensorError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise FewShotError(f"{path} is not a safetensors file of mastaf, or is damaged: {error}") from None


def _note(data: bytes) -> dict[str, Any]:
    # The format: eight bytes of header length, then the header's JSON, whose __metadata__ maps text to text.
    length = int.from_bytes(data[:8], "little")
    note = json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["mastaf"])
    if not isinstance(note, dict):
        raise TypeError("its note is not an object")
    return note


def load_exactly(module: torch.nn.Module, tensors: Mapping[str, Tensor], source: Path) -> None:
    """Load tensors into a module. Raises FewShotError naming what is missing, unexpected or of another shape."""
    own = module.state_dict()
    wrong = [f"missing {name}" for name in own if name not in tensors]
    wrong += [f"unexpected {name}" for name in tensors if name not in own]
    wrong += [
        f"{name} is {_shape(tensors[name])}, not {_shape(tensor)}"
        for name, tensor in own.items()
        if name in tensors and tensors[name].shape != tensor.shape
    ]
    if wrong:
        shown = "; ".join(wrong[:5]) + (f"; and {len(wrong) - 5} more" if len(wrong) > 5 else "")
        raise FewShotError(f"the weights of {source} do not fit the method in its settings: {shown}")
    module.load_state_dict(dict(tensors))


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a scalar"
