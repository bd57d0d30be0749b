"""A folder in Hugging Face's format becomes a model of the transformers library, without running anybody's code."""

import json
import logging
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from torch import nn
from transformers.utils import logging as library_log

from ....cache.text import shown
from ...errors import ExtractError
from .limits import check_memory, check_numbers

PIXELS = ("pixel_values", "pixel_values_videos")
# What the library raises at configurations and weights that do not suit it.
FAULTS = (RuntimeError, ValueError, OSError, TypeError, LookupError, AttributeError, ArithmeticError, AssertionError)


def read_config(folder: Path, name: str) -> Any:
    """The configuration of the vision encoder in `folder`: the model's own, or the vision tower's of a model with
    text. ExtractError where there is none."""
    try:
        check_numbers(json.loads((folder / "config.json").read_text(encoding="utf-8")), name)
        with quiet():
            config = transformers.AutoConfig.from_pretrained(
                str(folder), trust_remote_code=False, local_files_only=True
            )
    except ExtractError:
        raise
    except (*FAULTS, StrictDataclassError, ImportError, RecursionError) as error:
        raise ExtractError(
            f"{name} cannot be used: its config.json is of no model that transformers {transformers.__version__} "
            f"knows ({first_line(error)})"
        ) from error
    if not _takes_pixels(config) and getattr(config, "vision_config", None) is not None:
        config = config.vision_config
    kind = model_class(config)
    if not _takes_pixels(config):
        wanted = getattr(kind, "main_input_name", "something else") if kind else "nothing that is known"
        raise ExtractError(
            f"{name} is no encoder of images or videos: a '{config.model_type}' takes {wanted}, not pixels"
        )
    # A configuration may name a repository whose code computes attention; none but the library's own is run.
    config._attn_implementation = None
    with quiet(), _one_line(name):
        check_memory(kind, config, name)
    return config


def model_class(config: Any) -> Any:
    """The plain encoder's class, or None."""
    try:
        return transformers.MODEL_MAPPING[type(config)]
    except KeyError:
        return None


def _takes_pixels(config: Any) -> bool:
    kind = model_class(config)
    return isinstance(kind, type) and getattr(kind, "main_input_name", "") in PIXELS and not _needs_text(config)


def _needs_text(config: Any) -> bool:
    return getattr(config, "text_config", None) is not None or getattr(config, "decoder", None) is not None


def random_model(config: Any, seed: int, name: str) -> nn.Module:
    """The encoder with the library's random weights, drawn without touching the global generator for good."""
    with torch.random.fork_rng(devices=[]), quiet(), _one_line(name):
        torch.default_generator.manual_seed(seed)  # the CPU alone: fork_rng brings no other back
        return model_class(config)(config).float().eval()


def load_model(folder: Path, config: Any, name: str) -> tuple[nn.Module, set[str]]:
    """The encoder with the folder's weights in float32, and the names of the entries that the folder lacks
    or holds in another shape.

    Safetensors, else what torch.save wrote, of which tensors alone are read.
    """
    with torch.random.fork_rng(devices=[]), quiet(), _one_line(name):
        model, report = model_class(config).from_pretrained(
            str(folder),
            config=config,
            local_files_only=True,
            trust_remote_code=False,
            weights_only=True,
            dtype=torch.float32,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    other = {entry[0] if isinstance(entry, tuple) else entry for entry in report["mismatched_keys"]}
    return model.eval(), set(report["missing_keys"]) | other


@contextmanager
def _one_line(name: str) -> Iterator[None]:
    """What the library says when a model cannot be made, as one line."""
    try:
        yield
    except (pickle.UnpicklingError, SafetensorError) as error:
        code = "Unsupported" in str(error) or "GLOBAL" in str(error)
        why = "its weights are a pickle with code in it, refused unread" if code else first_line(error)
        raise ExtractError(f"{name} cannot be loaded: {why}; get model.safetensors from its page") from error
    except ImportError as error:
        raise ExtractError(f"{name} needs another package: {first_line(error)}") from error
    except ExtractError:
        raise
    except FAULTS as error:
        raise ExtractError(f"{name} cannot be loaded: {first_line(error)}") from error


@contextmanager
def quiet() -> Iterator[None]:
    """Without the library's reports and progress bars: what matters of them is said by our own lines."""
    level, bars = library_log.get_verbosity(), library_log.is_progress_bar_enabled()
    library_log.set_verbosity(logging.CRITICAL)
    library_log.disable_progress_bar()
    try:
        yield
    finally:
        library_log.set_verbosity(level)
        if bars:
            library_log.enable_progress_bar()


def first_line(error: Exception) -> str:
    """The first line of a message of the library, and the next where it only announces that; fit for a terminal."""
    lines = [line.strip() for line in (str(error).strip() or type(error).__name__).splitlines()]
    return shown(" ".join(lines[: 2 if lines[0].endswith(":") else 1])[:300])
