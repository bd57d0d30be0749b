"""What the command says at its end."""

from pathlib import Path

import pytest
from mastaf.extract.datasets.videos import Video, ordered_index
from mastaf.extract.report import say_what_is_next
from mastaf.extract.summary import ExtractSummary


@pytest.mark.parametrize(
    ("split_of", "expected"),
    [
        (dict.fromkeys("abcde", "test"), "evaluate --features 's 1.zarr' --variant neighbor"),
        (dict.fromkeys("abc", "test"), "evaluate --features 's 1.zarr' --variant neighbor --way 3"),
        (dict.fromkeys("abcdef", "val"), "evaluate --features 's 1.zarr' --variant neighbor --split val"),
        (dict.fromkeys("abcde", "train") | {"z": "test"}, "train --features 's 1.zarr'"),
        (dict.fromkeys("abcd", "train") | {"z": "test"}, "train --features 's 1.zarr' --way 4"),
    ],
)
def test_the_next_command_fits_the_classes_that_are_there(capsys, split_of, expected):
    index = ordered_index([Video(f"{c}.mp4", f"{c}.mp4", c, split) for c, split in split_of.items()])
    counts = {"done": 1, "skipped": 0, "failed": 0, "missing": 0}
    summary = ExtractSummary(**counts, seconds={}, bound="", decoders=2, videos_per_second=1, failures=[])
    say_what_is_next(summary, Path("s 1.zarr"), index)
    assert capsys.readouterr().out == f"next: mastaf-fewshot {expected}\n"
