"""The files of an export: one kind of writer for each format of export_names.py."""

import io
import json
import tarfile
import zipfile
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from .atomic import atomic_path

TEXTS = ("key", "class", "split", "group", "recipe")  # of one video, beside its cube


class Writer(ABC):
    """Writes cubes into `folder`, in files of at most about `shard_bytes` where a file holds several videos.

    A context: its files are whole once it ends well.
    """

    def __init__(self, folder: Path, shard_bytes: int) -> None:
        self._folder, self._most = folder, shard_bytes

    def __enter__(self) -> Self:
        return self

    @abstractmethod
    def __exit__(self, *error: Any) -> None: ...

    @abstractmethod
    def add(self, name: str, facts: dict[str, Any], cube: NDArray[np.float16]) -> dict[str, Any]:
        """Write a cube [c, t, h, w] under a safe name, with its facts (`row` and TEXTS); where it is: `file` and,
        in a file of several, its place there."""


class NpzWriter(Writer):
    """`SPLIT/NAME.npz` for each video: `cube`, `row`, and TEXTS as arrays of characters."""

    def add(self, name: str, facts: dict[str, Any], cube: NDArray[np.float16]) -> dict[str, Any]:
        file = f"{facts['split']}/{name}.npz"
        (self._folder / file).parent.mkdir(exist_ok=True)
        arrays = {"cube": cube, "row": np.array(facts["row"], "<i8")}
        arrays |= {text: np.array(facts[text], "U") for text in TEXTS}
        # np.savez says differently in each numpy that nothing may be pickled.
        with zipfile.ZipFile(self._folder / file, "w") as archive:
            for member, array in arrays.items():
                with archive.open(zipfile.ZipInfo(f"{member}.npy"), "w") as stream:
                    np.lib.format.write_array(stream, array, allow_pickle=False)
        return {"file": file}

    def __exit__(self, *error: Any) -> None:
        pass


class TarWriter(Writer):
    """WebDataset's shards, `SPLIT-00000.tar`: NAME.cube.npy and NAME.json for each video, with no time of writing."""

    def __init__(self, folder: Path, shard_bytes: int) -> None:
        super().__init__(folder, shard_bytes)
        self._open: dict[str, tarfile.TarFile] = {}
        self._numbers: dict[str, int] = {}

    def add(self, name: str, facts: dict[str, Any], cube: NDArray[np.float16]) -> dict[str, Any]:
        stream = io.BytesIO()
        np.save(stream, cube, allow_pickle=False)
        about = json.dumps({"row": facts["row"]} | {text: facts[text] for text in TEXTS}, ensure_ascii=False)
        parts = {"cube.npy": stream.getvalue(), "json": about.encode()}
        file, archive = self._shard(facts["split"], sum(map(len, parts.values())))
        for ending, data in parts.items():
            member = tarfile.TarInfo(f"{name}.{ending}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
        return {"file": file, "name": name}

    def _shard(self, split: str, nbytes: int) -> tuple[str, tarfile.TarFile]:
        """The shard of a split that takes `nbytes` more, and its file's name."""
        archive = self._open.get(split)
        if archive is not None and archive.offset > 0 and archive.offset + nbytes > self._most:
            archive.close()
            archive = None
        if archive is None:
            self._numbers[split] = self._numbers.get(split, -1) + 1
            file = f"{split}-{self._numbers[split]:05d}.tar"
            archive = tarfile.open(self._folder / file, "x", format=tarfile.USTAR_FORMAT)  # noqa: SIM115
            self._open[split] = archive
        return f"{split}-{self._numbers[split]:05d}.tar", archive

    def __exit__(self, *error: Any) -> None:
        for archive in self._open.values():
            archive.close()


class SafetensorsWriter(Writer):
    """`SPLIT-00000.safetensors`: one tensor `cubes`, float16 [m, c, t, h, w]; `keys` in the metadata, as JSON."""

    def __init__(self, folder: Path, shard_bytes: int) -> None:
        super().__init__(folder, shard_bytes)
        self._waiting: dict[str, list[tuple[dict[str, Any], NDArray[np.float16]]]] = {}
        self._numbers: dict[str, int] = {}

    def add(self, name: str, facts: dict[str, Any], cube: NDArray[np.float16]) -> dict[str, Any]:
        split = facts["split"]
        waiting = self._waiting.setdefault(split, [])
        if waiting and (len(waiting) + 1) * cube.nbytes > self._most:
            self._write(split)
        waiting.append((facts, cube.copy()))
        return {"file": self._file(split), "position": len(waiting) - 1}

    def _file(self, split: str) -> str:
        return f"{split}-{self._numbers.get(split, 0):05d}.safetensors"

    def _write(self, split: str) -> None:
        from safetensors.numpy import save_file

        videos = self._waiting[split]
        about = {"keys": [facts["key"] for facts, _ in videos], "recipe": videos[0][0]["recipe"]}
        # One entry: the library writes several in no fixed order, and the same cubes should be the same bytes.
        metadata = {"mastaf": json.dumps(about, ensure_ascii=False)}
        cubes = np.stack([cube for _, cube in videos])  # [m, c, t, h, w]
        with atomic_path(self._folder / self._file(split)) as beside:
            save_file({"cubes": cubes}, beside, metadata)
        self._numbers[split] = self._numbers.get(split, 0) + 1
        videos.clear()

    def __exit__(self, *error: Any) -> None:
        for split, videos in self._waiting.items():
            if videos and error[0] is None:
                self._write(split)
