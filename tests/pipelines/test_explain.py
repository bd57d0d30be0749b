"""`mastaf explain`: the frames that the backbone saw, under the maps of the head, with the scores that it gave."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mastaf.cache.errors import CacheError
from mastaf.cache.store import open_store
from mastaf.extract.backbones.registry import load_backbone
from mastaf.extract.datasets.by_name import find_dataset
from mastaf.extract.decoding.decode import decode_clip
from mastaf.extract.decoding.ffmpeg import ffmpeg_exe
from mastaf.extract.run import extract
from mastaf.fewshot.episodes.episode import Episode
from mastaf.fewshot.episodes.randomness import EpisodeRandom
from mastaf.fewshot.evaluate import evaluate_fully
from mastaf.fewshot.methods.registry import load_method
from mastaf.fewshot.support_set import SupportSet
from mastaf.pipelines.errors import PipelineError
from mastaf.pipelines.explaining.attention import attend, methods_with_maps
from mastaf.pipelines.explaining.explanation import Explanation, Seen
from mastaf.pipelines.explaining.film import write_film
from mastaf.pipelines.explaining.grid import draw_grid
from mastaf.pipelines.explaining.of_store import explain_episode
from mastaf.pipelines.explaining.store_clips import decode_rows

pytestmark = pytest.mark.usefixtures("one_thread")
PLAIN: dict[str, Any] = {"method_keywords": {"meta_learner": False}, "way": 3, "episodes": 20}
WORDS = ("--set", "meta_learner=false", "--way", 3, "--episodes", 20)


def frames_of(file: Path, folder: Path) -> None:
    """A video as a folder of frames."""
    folder.mkdir(parents=True)
    subprocess.run([ffmpeg_exe(), "-loglevel", "error", "-i", file, folder / "frame%02d.png"], check=True)


@pytest.fixture(scope="module")
def cubes(small_motion, tmp_path_factory) -> Any:
    """A store of three classes of four videos, one class of frame folders, with markup and many alphabets in names."""
    root = tmp_path_factory.mktemp("explained") / "videos"
    names = ("$x^2$ <b>bold", "Ходьба 走る", "frames")
    for name, source in zip(names, sorted((small_motion / "test").iterdir())[:3], strict=True):
        for number, file in enumerate(sorted(source.iterdir())[:4]):
            if name == "frames":
                frames_of(file, root / name / f"clip{number}")
            else:
                (root / name).mkdir(parents=True, exist_ok=True)
                shutil.copy(file, root / name / f"clip{number}.mp4")
    out = root.parent / "cubes.zarr"
    extract(find_dataset("folder", root=root), load_backbone("r3d-tiny"), out=out, precision="fp32", progress=False)
    return open_store(out)


def test_frames_scores_and_maps_are_those_of_the_evaluation(cubes, tmp_path):
    number = 7
    found = explain_episode(cubes, number=number, **PLAIN)
    shown, root = found.explanation, Path(cubes.header.provenance["root"])
    assert found.checked
    spec = cubes.spec
    for seen in (*shown.queries, *(video for shots in shown.supports for video in shots)):
        path = root / cubes.index.paths[cubes.index.keys.index(seen.name)]
        rule = load_backbone("r3d-tiny").pixels
        assert np.array_equal(seen.frames, decode_clip(path, frames=spec.frames, rule=rule).pixels)
    evaluated = evaluate_fully(cubes, out=tmp_path, progress=False, **PLAIN)
    np.testing.assert_allclose(shown.logits, evaluated.predictions.logits[number : number + 1], rtol=1e-3)
    assert shown.labels == [int(evaluated.predictions.label[number])]
    # Without a meta-learner A is the softmax of a position's mean cosine with all positions.
    for way, (support,) in enumerate(shown.supports):
        cube = torch.from_numpy(cubes.read([cubes.index.keys.index(support.name)])[0]).double().flatten(1)  # [c, L]
        unit = cube / cube.norm(dim=0)
        slow = torch.softmax((unit.T @ unit).mean(1) / 0.025, 0).reshape(spec.cube_shape[1:])
        np.testing.assert_allclose(shown.maps["class_self"][way], slow, rtol=2e-3)


def test_the_command_writes_grid_film_and_scores(cubes, mastaf, tmp_path):
    out, summary = tmp_path / "out", tmp_path / "s.json"
    status, said, _ = mastaf(
        *("explain", "--features", cubes.path, "--episode", 3, *WORDS, "--columns", 2),
        *("--out", out, "--json", summary),
    )
    assert status == 0
    found = json.loads(summary.read_text())
    assert {path.name for path in out.iterdir()} == {"query1.png", "query1.mp4", "explanation.json"}
    (query,) = found["queries"]
    assert f"{query['query']}: {query['predicted']}" in said
    assert sum(way["probability"] for way in query["ways"]) == pytest.approx(1)
    assert [len(way["supports"]) for way in query["ways"]] == [1, 1, 1]
    film = decode_clip(out / "query1.mp4", frames=32, rule=load_backbone("r3d-tiny").pixels)
    assert not film.note
    assert np.ptp(film.pixels[0].astype(int) - film.pixels[4]) > 20  # it moves


def test_clips_of_ones_own_are_shown_without_a_store(cubes, mastaf, tmp_path):
    root, support, out = Path(cubes.header.provenance["root"]), tmp_path / "classes", tmp_path / "out"
    for name in ("Ходьба 走る", "frames"):
        (support / name).mkdir(parents=True)
        one = sorted((root / name).iterdir())[0]
        (shutil.copytree if one.is_dir() else shutil.copy)(one, support / name / one.name)
    query, broken = tmp_path / "<i>query.mp4", tmp_path / "no video.mp4"
    shutil.copy(support / "Ходьба 走る" / "clip0.mp4", query)
    broken.write_text("no video")
    ask = ("explain", "--support", support, "--no-film", "--columns", 2, "--out", out)
    status, said, _ = mastaf(*ask, "--query", query, "--query", support / "frames" / "clip0")
    assert status == 0
    assert "MASTAF without its meta-learner" in said
    found = json.loads((out / "explanation.json").read_text())
    assert [one["predicted"] for one in found["queries"]] == ["Ходьба 走る", "frames"]  # each is its own example, too
    assert {path.name for path in out.iterdir()} == {"query1.png", "query2.png", "explanation.json"}
    status, _, error = mastaf(*ask, "--query", broken)
    assert (status, error.count("\n")) == (2, 1)
    assert f"{broken}: not a video" in error


def test_options_of_stores_and_of_clips_do_not_mix(cubes, mastaf):
    for words, reason in (
        (("--support", "x", "--query", "y", "--way", 3), "--way cannot go with --support"),
        (("--features", cubes.path, "--episode", 3, "--query", "y"), "--query cannot go with --features"),
        (("--features", cubes.path), "--features needs --episode N"),
        (("--support", "x"), "--support needs --query CLIP"),
        ((), "give --features STORE and --episode N, or --support DIR and --query CLIP"),
    ):
        status, _, error = mastaf("explain", *words)
        assert (status, error.count("\n")) == (2, 1)
        assert reason in error


@pytest.mark.parametrize("name", methods_with_maps())
def test_maps_of_a_support_set_are_those_of_the_episode_that_it_is(name):
    torch.manual_seed(0)
    shape = (8, 3, 4, 2)
    method = load_method(name).build(cube_shape=shape, n_train_classes=0).eval()
    cubes = torch.rand(7, *shape).half()
    episode = Episode(
        cubes[:6].float().unflatten(0, (1, 3, 2)),
        cubes[None, 6:].float(),
        torch.zeros(1, 1, dtype=torch.long),
        torch.full((1, 3), -1),
    )
    found = SupportSet(method, cubes[:6].numpy(), [0, 0, 1, 1, 2, 2]).attention(cubes[6].numpy())
    wanted = method.attention(episode)
    assert found.keys() == wanted.keys()
    for kind, map_ in wanted.items():
        np.testing.assert_allclose(found[kind], map_[0].detach(), rtol=1e-4, atol=1e-7)


def made_up(rng: np.random.Generator, *, size: int, frames: int, way: int = 2, **maps: tuple[int, ...]) -> Explanation:
    """An explanation of noise, with maps of these shapes that each sum to 1."""

    def seen(name: str) -> Seen:
        return Seen(name, rng.integers(0, 256, (frames, size, size, 3), dtype=np.uint8))

    values = {name: rng.random(shape) for name, shape in maps.items()}
    return Explanation(
        head="a head",
        title="$\\alpha$",
        classes=[f"<class> {n}" * 40 for n in range(way)],
        supports=[[seen(f"s{n}")] for n in range(way)],
        queries=[seen("query")],
        labels=[None],
        logits=rng.standard_normal((1, way)).astype(np.float32),
        maps={name: value / value.sum(axis=(-3, -2, -1), keepdims=True) for name, value in values.items()},
    )


@pytest.mark.parametrize(("size", "frames", "sizes"), [(33, 3, (1, 7, 7)), (97, 1, (1, 1, 1)), (20, 2, (4, 1, 3))])
def test_a_grid_holds_the_frames_unchanged_and_a_film_has_even_sides(tmp_path, size, frames, sizes):
    rng = np.random.default_rng(size)
    maps = {"class_self": (2, *sizes), "query_self": (1, *sizes), "query_cross": (1, 2, *sizes)}
    shown = made_up(rng, size=size, frames=frames, **maps)
    grid = draw_grid(shown, 0, ways=[1, 0], columns=frames)
    times = -(-96 // size)
    wanted = [video.frames for shots in shown.supports for video in shots] + [shown.queries[0].frames]
    for video in wanted:
        for picture in video:
            assert holds(grid, picture.repeat(times, 0).repeat(times, 1))
    path = tmp_path / "film.mp4"
    write_film(path, shown, 0)
    rule = load_backbone("r3d-tiny").pixels
    assert not decode_clip(path, frames=-(-32 // frames) * frames, rule=rule).note


def holds(page: np.ndarray, picture: np.ndarray) -> bool:
    """Whether a picture [h, w, 3] is somewhere in a page."""
    height, width = picture.shape[:2]
    corners = np.argwhere((page[: -height + 1, : -width + 1] == picture[0, 0]).all(-1))
    return any(np.array_equal(page[y : y + height, x : x + width], picture) for y, x in corners)


@pytest.mark.parametrize("name", methods_with_maps())
def test_every_head_with_maps_can_be_shown(name):
    torch.manual_seed(0)
    shape = (8, 3, 4, 2)
    method = load_method(name).build(cube_shape=shape, n_train_classes=0)
    episode = Episode(
        torch.rand(1, 3, 2, *shape), torch.rand(1, 2, *shape), torch.tensor([[0, 1]]), torch.full((1, 3), -1)
    )
    logits, maps = attend(method, name, episode, EpisodeRandom(0))
    rng = np.random.default_rng(0)
    blank = Seen("", rng.integers(0, 256, (6, 8, 8, 3), dtype=np.uint8))
    shown = Explanation(
        head=name,
        title="",
        classes=["a", "b", "c"],
        supports=[[blank, blank]] * 3,
        queries=[blank, blank],
        labels=[0, 1],
        logits=logits,
        maps=maps,
    )
    for strips in (shown.support_strips(1, 2, 1), shown.query_strips(1, 2)):
        assert len(strips) == 1 + len(shown.kinds)
        assert all(strip is None or strip.pictures.shape == blank.frames.shape for strip in strips)
    assert any(strip is not None for strip in shown.query_strips(1, 2)[1:])


def test_a_video_that_is_gone_or_another_is_named(cubes, mastaf, tmp_path):
    root = tmp_path / "moved"
    shutil.copytree(cubes.header.provenance["root"], root)
    ask = ("explain", "--features", cubes.path, "--episode", 3, *WORDS, "--no-film", "--out", tmp_path / "o")
    ask += ("--shot", 2, "--columns", 1)
    assert mastaf(*ask, "--root", root)[0] == 0
    assert {path.name for path in (tmp_path / "o").glob("*.png")} == {
        *("query1.png", "query1_rank1.png", "query1_rank2.png", "query1_rank3.png")
    }
    key = json.loads((tmp_path / "o" / "explanation.json").read_text())["queries"][0]["query"]
    path = root / cubes.index.paths[cubes.index.keys.index(key)]
    other = next(p for p in sorted(path.parent.iterdir()) if p != path)
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    status, _, error = mastaf(*ask, "--root", root)
    assert (status, error.count("\n")) == (2, 1)
    assert f"the video of '{key}' is not at {path}; --root names the folder" in error
    (shutil.copytree if other.is_dir() else shutil.copy)(other, path)
    status, _, error = mastaf(*ask, "--root", root)
    assert (status, error.count("\n")) == (2, 1)
    assert f"the video of '{key}' has changed since" in error
    assert "--root" in error


def test_a_store_from_a_stranger_shows_no_video_outside_its_root(make_store, small_motion, tmp_path):
    store = make_store(tmp_path / "s.zarr", split_classes={"test": ("../outside", "b")}, videos=2)
    (tmp_path / "inside").mkdir()
    (tmp_path / "outside").mkdir()
    shutil.copy(next(small_motion.rglob("*.mp4")), tmp_path / "outside" / "000.mp4")
    assert decode_rows(store, [0], root=tmp_path / "inside", follow_links=True)
    with pytest.raises(PipelineError, match="leads it out of"):
        decode_rows(store, [0], root=tmp_path / "inside")


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--episode", 20, *WORDS), "episode (20) must be from 0 to 19: the list has 20 episodes"),
        (
            ("--episode", 0, "--method", "trx"),
            "method 'trx' has no attention maps to show; methods that have some: mastaf",
        ),
        (("--episode", 0, "--variant", "neighbor", "--way", 3), "method 'mastaf' (neighbor) has no attention maps"),
        (("--episode", 0, *WORDS, "--root", "/nowhere"), "no folder here; give their folder with --root"),
    ],
)
def test_what_cannot_be_shown_is_said_in_a_line(cubes, mastaf, tmp_path, words, reason):
    status, _, error = mastaf("explain", "--features", cubes.path, *words, "--out", tmp_path / "o")
    assert (status, error.count("\n")) == (2, 1)
    assert reason in error


def test_a_folder_that_cannot_be_written_is_said_before_anything_is_computed(cubes, mastaf, tmp_path):
    (tmp_path / "file").write_text("")
    out = tmp_path / "file" / "o"
    status, _, error = mastaf("explain", "--features", cubes.path, "--episode", 0, *WORDS, "--out", out)
    assert (status, error) == (
        2,
        f"error: out ({out}) must be a folder that can be written (Not a directory); give another\n",
    )


def test_maps_under_names_that_nobody_knows_are_refused():
    with pytest.raises(PipelineError, match="map 'support'"):
        made_up(np.random.default_rng(0), size=8, frames=1, support=(2, 1, 1, 1))


def test_without_the_extra_its_command_is_named(monkeypatch):
    shown = made_up(np.random.default_rng(0), size=8, frames=1, class_self=(2, 1, 1, 1))
    monkeypatch.setattr("mastaf.cache.extras.find_spec", lambda name: None)
    with pytest.raises(CacheError, match=r"pip install 'mastaf\[plots\]'"):
        draw_grid(shown, 0, ways=[0])


def test_names_are_text_in_any_alphabet():
    """No warning of a missing letter, no markup, and a name of any length stays in its place."""
    from mastaf.pipelines.explaining.sheet import Sheet

    def written(text: str) -> np.ndarray:
        sheet = Sheet(400, 30)
        sheet.write(text, 5, 15, room=200)
        return sheet.render()

    for text in ("$\\frac{1}{2}$ <b>&amp;", "Ж ü ∂ العربية", "走る 🏃", "a\x1b[31m\nb", "\udcff", "w" * 5000):
        page = written(text)
        assert (page[:, :205] < 128).any()
        assert (page[:, 215:] == 255).all()
    assert not np.array_equal(written("走"), written("去"))
    assert np.array_equal(written("\U0010fffd"), written("\\U0010fffd"))
