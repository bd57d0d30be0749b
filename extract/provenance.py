"""What a store says about the run that made it, beyond what its cubes depend on."""

from datetime import UTC, datetime
from typing import Any

from ..cache.versions import versions_of
from .backbones.base import Backbone
from .datasets.videos import VideoSet
from .decoding.ffmpeg import ffmpeg_version


def provenance(videos: VideoSet, backbone: Backbone, *, device: str, command: str, allow_flip: bool) -> dict[str, Any]:
    """Plain JSON values: versions, device, date, weights, what was left out of the data set, the command."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command,
        "root": str(videos.root),
        "device": device,
        "versions": versions_of("mastaf", "torch", "numpy", "zarr", "h5py") | {"ffmpeg": ffmpeg_version()},
        "weights_source": backbone.weights_source,
        "weights_facts": backbone.facts,
        "allow_flip": allow_flip,
        "follow_links": videos.follow_links,
        "ignored": videos.ignored,
        "notes": list(videos.notes),
    }
