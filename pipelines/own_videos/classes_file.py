"""`my.classes`: an enrolment as one file, safetensors with its facts as JSON in the header.

    cubes       float16 [n, c, t, h, w], one for each example
    head.NAME   the head's parameters
    header      `mastaf`: JSON text of schema, recipe, spec, network, head, examples, calibration

No code can hide in it, it is written whole or not at all, and whoever reads it believes nothing: see `read_classes`.
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from ...cache.atomic import atomic_path
from ...cache.checks import brief, parse_json, require_keys
from ...cache.errors import CacheError
from ...cache.packing import finite_rows
from ...cache.spec import FeatureSpec
from ...extract.decoding.pixels import check_clip
from ...extract.errors import ExtractError
from ...fewshot.errors import FewShotError
from ...fewshot.statistics.temperature import Calibration
from ..errors import PipelineError
from .enrolment import Enrolment, Example, HeadFacts, Network

SCHEMA = 1
CUBES, HEAD = "cubes", "head."
_FACTS = ("schema", "recipe", "spec", "network", "head", "examples", "calibration")


def write_classes(path: Path, enrolment: Enrolment) -> None:
    """Write the file whole or not at all. OSError where that cannot be."""
    from safetensors.numpy import save_file

    facts = {
        "schema": SCHEMA,
        "recipe": enrolment.spec.recipe,
        "spec": enrolment.spec.to_json(),
        "network": asdict(enrolment.network),
        "head": asdict(enrolment.head),
        "examples": [asdict(example) for example in enrolment.examples],
        "calibration": enrolment.calibration and enrolment.calibration.to_json(),
    }
    tensors = {HEAD + name: np.ascontiguousarray(value) for name, value in enrolment.head_tensors.items()}
    tensors[CUBES] = np.ascontiguousarray(enrolment.cubes, np.float16)
    with atomic_path(Path(path)) as beside:
        save_file(tensors, beside, metadata={"mastaf": json.dumps(facts, ensure_ascii=False, allow_nan=False)})


def read_classes(path: Path) -> Enrolment:
    """Read a file of classes, which may be from a stranger. PipelineError for anything that is not one."""
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.is_file():
        raise PipelineError(f"classes {path} must be a file that `mastaf enrol` wrote")
    try:
        with safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return _enrolment(parse_json(metadata["mastaf"].encode(), "its header"), tensors)
    except (
        SafetensorError,
        CacheError,
        ExtractError,
        FewShotError,
        PipelineError,
        ValueError,
        TypeError,
        KeyError,
    ) as error:
        raise PipelineError(f"{path} is no file of classes, or is damaged: {brief(error, 300)}; enrol anew") from None


def _enrolment(facts: Any, tensors: dict[str, np.ndarray]) -> Enrolment:
    require_keys(facts, _FACTS, "the header")
    if facts["schema"] != SCHEMA:
        raise PipelineError(f"its schema ({facts['schema']}) must be {SCHEMA}; use the mastaf that it is from")
    spec = FeatureSpec.from_json(facts["spec"])
    if spec.recipe != facts["recipe"]:
        raise PipelineError("its recipe is not the digest of its spec")
    if min(spec.frames, spec.size) < 1:
        raise PipelineError(f"its frames ({spec.frames}) and size ({spec.size}) must be at least 1")
    check_clip(spec.frames, spec.size)  # decoders start before there is a network that would refuse it
    cubes = tensors.pop(CUBES)
    if cubes.dtype != np.float16 or cubes.ndim != 5 or not len(cubes) or not finite_rows(cubes).all():
        raise PipelineError(f"cubes ({cubes.dtype} {cubes.shape}) must be finite float16 [n, c, t, h, w]")
    strangers = [name for name in tensors if not name.startswith(HEAD)]
    if strangers:
        raise PipelineError(f"unknown tensors: {', '.join(strangers[:5])}")
    calibration = facts["calibration"]
    return Enrolment(
        spec=spec,
        network=Network(**facts["network"]),
        head=HeadFacts(**facts["head"]),
        head_tensors={name.removeprefix(HEAD): value for name, value in tensors.items()},
        examples=tuple(Example(**example) for example in facts["examples"]),
        cubes=cubes,
        calibration=None if calibration is None else Calibration.from_json(calibration),
    )
