"""Configurations of strangers: numbers that no encoder has are refused before anything is built of them.

A config.json of a few bytes may ask for a billion layers, or for tubelets of no pixels.
"""

import os
import re
from typing import Any

import torch
from torch import nn

from ...errors import ExtractError

# Part of a field's name -> the smallest and the largest whole number that it may hold, in lists too.
_RANGES = (
    (re.compile("layers|depth|num_blocks|num_stages"), -1_000, 1_000),
    (re.compile("heads"), 1, 1_000),
    (re.compile("num_labels"), 0, 1_000_000),
    (re.compile("num_frames|frames_per_clip"), 1, 4_096),
    (re.compile("image_size|crop_size|patch_size|tubelet_size"), 1, 1 << 14),
)


def check_numbers(content: Any, name: str) -> None:
    """ExtractError naming a number of a configuration, as read from its JSON, that no encoder has."""
    for field, value in content.items() if isinstance(content, dict) else ():
        if isinstance(value, dict):
            check_numbers(value, name)
            continue
        for wanted, least, most in _RANGES:
            numbers = [n for n in (value if isinstance(value, list) else [value]) if type(n) is int]
            if wanted.search(field) and any(not least <= number <= most for number in numbers):
                raise ExtractError(
                    f"{name} cannot be used: its config.json says {field} {value}, which must be {least} to {most}"
                )


def check_memory(kind: type[nn.Module], config: Any, name: str) -> None:
    """ExtractError for an encoder whose weights are more than this machine's memory holds, in float32."""
    with torch.device("meta"):
        numbers = sum(parameter.numel() for parameter in kind(config).parameters())
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if 4 * numbers > there:
        raise ExtractError(
            f"{name} cannot be used: its config.json asks for {4 * numbers / 1e9:.0f} GB of weights, and this machine "
            f"has {there / 1e9:.0f} GB of memory"
        )
