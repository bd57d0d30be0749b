"""What tells fine-tuning runs apart: a file in the run's folder, so that a killed run is continued and no other is."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...cache import console
from ...cache.atomic import remove_leftovers, write_json
from ...cache.checks import brief, parse_json
from ..errors import PipelineError

SETTINGS_FILE, PLAN_FILE, RESULT_FILE, WEIGHTS_FILE = (
    "settings.json",
    "plan.json",
    "finetune.json",
    "backbone.safetensors",
)
PROVENANCE = "provenance"  # of the settings; does not tell runs apart


def enter_run(folder: Path, settings: Mapping[str, Any]) -> bool:
    """Claim a new folder, or accept that of the same settings. Whether the run is finished."""
    for name in (SETTINGS_FILE, PLAN_FILE, RESULT_FILE, WEIGHTS_FILE):
        remove_leftovers(folder / name)
    path, plain = folder / SETTINGS_FILE, json.loads(json.dumps(settings))
    if not path.is_file():
        strangers = sorted(p.name for p in folder.iterdir() if p.name != "run.lock")
        if strangers:
            raise PipelineError(f"out ({folder}) holds other files ({strangers[0]}) and no run; give another --out")
        write_json(path, plain)
        return False
    there = read_object(path)
    differing = _differences(plain, there)
    if differing:
        raise PipelineError(
            f"out ({folder}) holds a run of other settings ({'; '.join(differing)}); give another --out, or remove it"
        )
    if (folder / RESULT_FILE).is_file():
        console.say(f"{folder} is already trained with these settings")
        return True
    if there.get(PROVENANCE) != plain.get(PROVENANCE):
        console.say("continuing with other versions or another device: weights may differ in their last bits")
    return False


def settle(folder: Path, plan: Mapping[str, Any]) -> None:
    """Write what the settings came to with these videos, or compare it with what was written when the run began."""
    path, plain = folder / PLAN_FILE, json.loads(json.dumps(plan))
    if not path.is_file():
        write_json(path, plain)
        return
    differing = _differences(plain, read_object(path))
    if differing:
        raise PipelineError(
            f"what {folder} was begun with has changed since ({'; '.join(differing)}); put the videos back as they "
            "were, or give another --out"
        )


def read_object(path: Path) -> dict[str, Any]:
    """A JSON object of the run's folder."""
    found = parse_json(path.read_bytes(), str(path))
    if not isinstance(found, dict):
        raise PipelineError(f"{path} is not of a run of mastaf finetune; give another --out")
    return found


def _differences(here: Mapping[str, Any], there: Mapping[str, Any]) -> list[str]:
    """Each setting that differs, in words; those of a group by their own names."""
    found = []
    for name in sorted((set(here) | set(there)) - {PROVENANCE}):
        one, other = here.get(name), there.get(name)
        if isinstance(one, dict) and isinstance(other, dict):
            found += _differences(one, other)
        elif one != other:
            found.append(f"{name}: {brief(one, 40)} here, {brief(other, 40)} there")
    return found
