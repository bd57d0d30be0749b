"""Links that leave the root: refused, unless `--follow-links`; links that run in circles end."""

from collections.abc import Callable
from pathlib import Path

import pytest
from mastaf.extract.datasets.by_name import find_dataset
from mastaf.extract.datasets.links import Links
from mastaf.extract.decoding.decode import decode_clip
from mastaf.extract.decoding.pixels import PixelRule
from mastaf.extract.errors import VideoError


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root with links out of it at every level, and loops."""
    root, outside = tmp_path / "root", tmp_path / "outside"
    touch(root, "walk/1.mp4", "run/1.mp4", "swim/f/1.jpg")
    touch(outside, "secret.mp4", "frames/1.jpg", "class/1.mp4")
    (root / "walk/out.mp4").symlink_to(outside / "secret.mp4")
    (root / "walk/frames").symlink_to(outside / "frames")
    (root / "swim/f/2.jpg").symlink_to(outside / "frames/1.jpg")
    (root / "class").symlink_to(outside / "class")
    (root / "walk/loop.mp4").symlink_to("loop.mp4")
    (root / "run/round").symlink_to("..")
    (root / "self").symlink_to(".")
    (root / "run/gone.mp4").symlink_to(outside / "gone.mp4")
    return root


def test_links_out_of_the_root_are_followed_when_asked(root: Path) -> None:
    refused = find_dataset("folder", root=root)
    assert refused.index.keys == ("run/1.mp4", "walk/1.mp4")
    assert refused.ignored["links that leave the root"] == 7  # one of them is met again by way of the loop
    followed = find_dataset("folder", root=root, follow_links=True)
    assert followed.follow_links
    assert followed.index.keys == (
        *("class/1.mp4", "run/1.mp4", "swim/f", "walk/1.mp4", "walk/frames", "walk/out.mp4"),
    )
    assert followed.ignored["links that leave the root"] == 2  # the loop, and the link to nothing


def test_splits_and_published_lists_follow_too(root: Path, tmp_path: Path) -> None:
    touch(tmp_path / "elsewhere", "train/brush_hair/a.avi", "train/cartwheel/b.avi")
    data = tmp_path / "data"
    data.mkdir()
    (data / "train").symlink_to(tmp_path / "elsewhere/train")
    touch(data, "test/catch/c.avi", "test/chew/d.avi")
    for name in ("folder", "hmdb51"):
        assert len(find_dataset(name, root=data).index) == 2
        assert len(find_dataset(name, root=data, follow_links=True).index) == 4


def test_a_csv_follows_when_asked(root: Path, tmp_path: Path) -> None:
    lines = ("class/1.mp4,a", "walk/out.mp4,b", "walk/1.mp4,c", "walk/loop.mp4,c", "run/1.mp4,b")
    (tmp_path / "list.csv").write_text("\n".join(["path,class", *lines]))
    refused = find_dataset(str(tmp_path / "list.csv"), root=root)
    assert refused.index.keys == ("run/1.mp4", "walk/1.mp4")
    followed = find_dataset(str(tmp_path / "list.csv"), root=root, follow_links=True)
    assert followed.index.keys == ("class/1.mp4", "run/1.mp4", "walk/out.mp4", "walk/1.mp4")


def test_a_link_that_came_after_the_listing_is_refused(
    make_video: Callable[..., Path], tmp_path: Path, rule: PixelRule
) -> None:
    video = make_video("linked.mp4", "-c:v", "libx264")
    root = tmp_path / "root"
    root.mkdir()
    (root / "a.mp4").symlink_to(video)
    with pytest.raises(VideoError, match=r"^a link leads it out of .*root; --follow-links allows that$"):
        decode_clip(root / "a.mp4", frames=4, rule=rule, links=Links(root))
    assert decode_clip(root / "a.mp4", frames=4, rule=rule, links=Links(root, follow=True)).pixels.any()
    assert decode_clip(root / "a.mp4", frames=4, rule=rule).pixels.any()


def test_links_of_frames(frame_folder: Path, frame_numbers: Callable, tmp_path: Path, rule: PixelRule) -> None:
    root = tmp_path / "root"
    for folder in ("clip", "shared"):
        (root / folder).mkdir(parents=True)
    (root / "shared/a.png").write_bytes((frame_folder / "f3.png").read_bytes())
    (root / "clip/1.png").write_bytes((frame_folder / "f1.png").read_bytes())
    (root / "clip/2.png").symlink_to("../shared/a.png")
    clip = decode_clip(root / "clip", frames=2, rule=rule, links=Links(root))
    assert frame_numbers(clip.pixels) == [0, 2]  # inside the root a link may lead anywhere
    (root / "clip/3.png").symlink_to(frame_folder / "f7.png")
    with pytest.raises(VideoError, match=r"frame '3\.png' is a link that leads out of .*root"):
        decode_clip(root / "clip", frames=3, rule=rule, links=Links(root))
    clip = decode_clip(root / "clip", frames=3, rule=rule, links=Links(root, follow=True))
    assert frame_numbers(clip.pixels) == [0, 2, 6]
