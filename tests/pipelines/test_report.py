"""`mastaf report`: one page of all results below a folder, which is what the records, predictions and metrics say."""

import hashlib
import io
import json
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

EPISODES = 60


@pytest.fixture(scope="module")
def store(make_store, tmp_path_factory) -> Any:
    """Cubes whose classes are hard to tell apart."""
    return make_store(tmp_path_factory.mktemp("cubes") / "toy.zarr", separation=0.35, seed=3)


@pytest.fixture(scope="module")
def runs(store, tmp_path_factory) -> Path:
    """An ablation of two seeds, two of its runs scored with other shots and ways too; never change it."""
    import torch
    from mastaf.fewshot.ablate import ablate_fully
    from mastaf.fewshot.evaluate import evaluate

    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("report") / "runs"
    settings = {"way": 3, "train_episodes": 64, "val_every": 32, "val_episodes": 10, "batch": 16}
    ablate_fully(store, rows="fusion", episodes=EPISODES, seeds=2, out=root / "a", progress=False, **settings)
    for name, other in (("full", {"way": 4}), ("neighbor", {"shot": 2}), ("full", {"shot": 2})):
        evaluate(store, root / "a" / f"{name}_3way_1shot_seed0", episodes=EPISODES, progress=False, **other)
    return root


@pytest.fixture(scope="module")
def page(runs, store, tmp_path_factory) -> tuple[Path, str]:
    """The page of these runs: its file and its text."""
    from mastaf.pipelines.reporting.report import make_report

    out = tmp_path_factory.mktemp("page") / "report.html"
    make_report(runs, out=out, features=[store.path])
    return out, out.read_text(encoding="utf-8")


@pytest.fixture
def copied(runs, tmp_path) -> Path:
    """The runs, to be changed."""
    return Path(shutil.copytree(runs, tmp_path / "runs"))


def _records(root: Path) -> dict[Path, dict[str, Any]]:
    return {path: json.loads(path.read_text()) for path in sorted(root.rglob("results/*.json"))}


def _answers(path: Path) -> dict[str, np.ndarray]:
    with np.load(path.with_suffix(".npz")) as found:
        return dict(found)


def _rewrite(path: Path, **changes: Any) -> None:
    """Change arrays of a record's predictions, and the record so that it names them."""
    arrays, stream = _answers(path) | changes, io.BytesIO()
    np.savez(stream, **arrays)
    path.with_suffix(".npz").write_bytes(stream.getvalue())
    record = json.loads(path.read_text())
    record["predictions"]["sha256"] = hashlib.sha256(stream.getvalue()).hexdigest()
    path.write_text(json.dumps(record))


def test_it_opens_from_disk_sorts_and_asks_for_nothing(page, browser_page) -> None:
    visit = browser_page(page[0].as_uri())
    table = visit.page.locator("section table.sorts").first
    cells = table.locator("tbody tr td:nth-child(2)")
    button = table.locator("th button", has_text="accuracy %")

    def shown() -> list[float]:
        return [float(n) for n in cells.evaluate_all("all => all.map(one => one.dataset.n)")]

    before = shown()
    button.click()
    assert shown() == sorted(before)
    button.click()
    assert shown() == sorted(before, reverse=True)
    assert table.locator("th[aria-sort]").count() == 1
    names = table.locator("tbody tr td:first-child")
    table.locator("th button", has_text="head").click()
    assert names.all_inner_texts() == sorted(names.all_inner_texts())
    visit.page.locator("a[href='#r2']").first.click()
    assert visit.page.locator("#r2").evaluate("one => one.open")
    assert visit.page.locator("svg").count() > 10
    assert visit.errors == []
    assert [url for url in visit.requests if not url.startswith("data:")] == [page[0].as_uri()]


@pytest.mark.parametrize("dark", [False, True])
def test_it_fits_a_phone_in_the_light_and_in_the_dark(page, browser_page, dark) -> None:
    visit = browser_page(page[0].as_uri(), width=360, dark=dark)
    visit.page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    assert not visit.is_too_wide
    paper, ink = visit.page.evaluate(
        "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]"
    )
    light = [sum(map(int, re.findall(r"\d+", colour))) for colour in (paper, ink)]
    assert (light[0] < light[1]) == dark
    assert visit.errors == []


def test_every_accuracy_is_that_of_the_predictions_with_its_intervals(page, runs) -> None:
    text = page[1]
    by_row: dict[tuple[Any, ...], list[float]] = {}
    for path, record in _records(runs).items():
        answers = _answers(path)
        right = sum(int(a == b) for a, b in zip(answers["predicted"], answers["label"], strict=True))
        by_row.setdefault((record["variant"], record["way"], record["shot"]), []).append(right / len(answers["label"]))
    assert len(by_row) == 7
    for seeds in by_row.values():
        assert f'data-n="{np.mean(seeds)}"' in text
    for record in _records(runs).values():
        assert f"{record['episodes']:,}" in text
        assert record["store"] in text
        assert record["episode_list"] in text
        assert record["predictions"]["sha256"] in text


def test_pairs_are_those_of_the_queries_that_one_alone_answered(page, runs) -> None:
    found = {}
    for path, record in _records(runs).items():
        answers = _answers(path)
        key = (record["variant"], record["shot"], record["way"], record["seed"])
        found[key] = answers["predicted"] == answers["label"]
    alone = []
    for seed in (0, 1):
        one, two = found["self", 1, 3, seed], found["full", 1, 3, seed]
        alone.append(f"{sum(one & ~two)} : {sum(two & ~one)}")
    assert f'<td class="n">{"; ".join(alone)}</td>' in page[1]


def test_classes_stand_with_their_counts(page, runs) -> None:
    path = next(iter(runs.rglob("neighbor_3way_1shot_seed0/results/*.json")))
    answers = _answers(path)
    true = [answers["classes"][m][label] for m, label in enumerate(answers["label"])]
    for number, name in enumerate(answers["class_names"].tolist()):
        mine = [m for m, is_of in enumerate(true) if is_of == number]
        share = 100 * np.mean([answers["predicted"][m] == answers["label"][m] for m in mine])
        videos = len({int(answers["query_row"][m]) for m in mine})
        words = rf"{name}: {share:.1f} \[[\d.]+, [\d.]+\] %, n = {len(mine)} queries of {videos} videos"
        assert re.search(words, page[1]), words


def test_charts_are_of_shots_ways_and_training(page) -> None:
    text = page[1]
    assert "3-way, test of toy by r3d-tiny" in text
    assert "1-shot, test of toy by r3d-tiny" in text
    assert text.count("val (n = 10 episodes)") == 6  # three variants that are trained, two seeds
    assert text.count("train (n = 200 episodes)") == 6


def test_the_commands_make_the_same_again(page, runs, tmp_path) -> None:
    import html

    from mastaf.cache import console
    from mastaf.fewshot.cli import cli
    from mastaf.fewshot.training.run_config import read_config

    commands = [html.unescape(code) for code in re.findall(r"<code>(.*?)</code>", page[1])]
    run = runs / "a" / "full_3way_1shot_seed1"
    score = next(c for c in commands if c.startswith("mastaf-fewshot evaluate") and str(run) in c)
    train = next(c for c in commands if c.startswith("mastaf-fewshot train") and c.endswith(str(run)))
    made = tmp_path / "made"
    for words in (shlex.split(train)[1:-1] + [str(made)], shlex.split(score.replace(str(run), str(made)))[1:]):
        with pytest.raises(SystemExit) as left:
            console.run(cli, words)
        assert not left.value.code
    assert read_config(made).differences(read_config(run)) == []
    (path,) = made.rglob("results/*.json")
    (original,) = run.rglob("results/*.json")
    assert path.with_suffix(".npz").read_bytes() == original.with_suffix(".npz").read_bytes()


def test_the_nearest_support_is_of_the_episode_and_nearest(runs, store, tmp_path) -> None:
    from mastaf.fewshot.episodes.listing import write_listing
    from mastaf.fewshot.records import read_predictions, read_record
    from mastaf.pipelines.reporting.mistakes import Episodes, episodes_of, nearest_supports, surest_mistakes

    path = next(iter(runs.rglob("neighbor_3way_1shot_seed0/results/*_2shot_*.json")))
    record, answers = read_record(path), read_predictions(path.with_suffix(".npz"))
    write_listing(store, out=tmp_path / "list", split="test", episodes=EPISODES, way=3, shot=2)
    episodes = [json.loads(line) for line in (tmp_path / "list").read_text().splitlines()[1:]]
    row = {key: number for number, key in enumerate(store.index.keys)}

    def pooled(key: str) -> np.ndarray:
        vector = store.read([row[key]])[0].astype(np.float64).mean(axis=(1, 2, 3))  # [c]
        return vector / np.linalg.norm(vector)

    drawn = episodes_of(record, answers, store, {})
    assert isinstance(drawn, Episodes)
    mistakes = surest_mistakes(answers, 5)
    assert len({one.row for one in mistakes}) == len(mistakes) == 5
    for one in mistakes:
        ways, ((query, label),) = episodes[one.episode]
        assert (row[query], label) == (one.row, one.label)
        for way, near in zip((one.answer, one.label), nearest_supports(drawn, one), strict=True):
            cosines = {key: float(pooled(query) @ pooled(key)) for key in ways[way]}
            assert near.key == max(cosines, key=lambda key: cosines[key])
            assert near.cosine == pytest.approx(cosines[near.key], abs=1e-5)


def test_attention_is_shown_only_of_the_weights_that_were_scored(copied, store, mastaf) -> None:
    lines = "Attention of the query" in _report(mastaf, copied, store)[1]
    assert not lines  # these videos are nowhere, so there is nothing to lay it over
    from mastaf.fewshot.records import read_predictions, read_record
    from mastaf.pipelines.reporting.looks import load_method, look_at
    from mastaf.pipelines.reporting.mistakes import episodes_of, surest_mistakes

    run = copied / "a" / "full_3way_1shot_seed0"
    path = next(p for p, r in _records(run).items() if (r["way"], r["shot"]) == (3, 1))
    answers = read_predictions(path.with_suffix(".npz"))
    episodes = episodes_of(read_record(path), answers, store, {})
    one = surest_mistakes(answers, 1)[0]
    for weights, right in ((run, True), (copied / "a" / "self_3way_1shot_seed0", False)):
        logits = answers.logits[one.place]
        looks: Any = look_at(load_method(weights, store), episodes, one.place, logits, [one.answer])
        if right:
            assert looks[0].query.shape == looks[0].support.shape == (1, 2, 2)
            assert looks[0].query.sum() == pytest.approx(1, abs=1e-4)
        else:
            assert "do not give the recorded scores" in looks


def _report(mastaf, runs: Path, store: Any, *more: Any) -> tuple[int, str, str]:
    """Status, page and what was said."""
    status, said, complaint = mastaf("report", "--runs", runs, "--features", store.path, *more)
    page = runs / "report.html"
    return status, page.read_text(encoding="utf-8") if page.is_file() else "", said + complaint


def test_files_that_are_not_to_be_believed_are_named_and_left_out(copied, store, mastaf) -> None:
    edited, cut, strange, broken, other = list(_records(copied))[:5]
    record = json.loads(edited.read_text())
    edited.write_text(json.dumps(record | {"accuracy": record["accuracy"] / 2}))
    cut.with_suffix(".npz").write_bytes(cut.with_suffix(".npz").read_bytes()[:100])
    _rewrite(strange, label=_answers(strange)["label"] + 9)
    broken.write_text("{")
    told = json.loads(other.read_text())
    other.write_text(json.dumps(told | {"pretraining": {"data": [3], "overlap": None}}))
    (copied / "a" / "full_3way_1shot_seed0" / "metrics.jsonl").write_text('{"episodes": 3, "val_accuracy": 7}\n')
    status, page, said = _report(mastaf, copied, store)
    assert status == 1
    for path in (edited, cut, strange, broken, other):
        assert path.name in said
        assert path.stem in page
    assert said.count("left out:") == 6
    assert "6 results" in said
    assert "accuracies must be shares" in page


def test_a_folder_without_results_says_how_to_get_some(tmp_path, mastaf) -> None:
    status, _, complaint = mastaf("report", "--runs", tmp_path)
    assert status == 2
    assert "mastaf-fewshot evaluate" in complaint
    assert not (tmp_path / "report.html").exists()
    status, _, complaint = mastaf("report", "--runs", tmp_path / "nowhere")
    assert status == 2
    assert "no folder" in complaint


def test_a_place_that_cannot_be_written_is_refused_first(runs, mastaf, monkeypatch) -> None:
    from mastaf.pipelines.reporting import report

    monkeypatch.setattr(report, "build_block", lambda *_: pytest.fail("it worked for nothing"))
    status, _, complaint = mastaf("report", "--runs", runs, "--out", runs)
    assert (status, "must be a file" in complaint) == (2, True)


def test_names_with_markup_stay_text(make_store, tmp_path, browser_page) -> None:
    from mastaf.fewshot.evaluate import evaluate
    from mastaf.pipelines.reporting.report import make_report

    odd = "<script>document.title='owned'</script>", '"><img src=x onerror="document.title=\'owned\'">', "a&b"
    named = make_store(tmp_path / "<b>toy.zarr", split_classes={"test": odd}, separation=0.2, dataset="</style><b>x")
    neighbor = {"variant": "neighbor"}
    evaluate(named, method_keywords=neighbor, way=3, episodes=40, out=tmp_path / "r" / "<i>run", progress=False)
    made = make_report(tmp_path / "r", features=[named.path])
    visit = browser_page(Path(made["out"]).as_uri())
    assert visit.page.title() == "Results in r"
    assert visit.page.locator("script").count() == 1
    assert visit.page.locator("img, body b, body i").count() == 0
    assert odd[0][:40] in visit.page.locator("details table").first.inner_text() or odd[0][:10] in visit.page.content()
    assert visit.errors == []


def test_supports_of_a_list_from_a_file_are_shown_with_that_file(store, tmp_path, mastaf) -> None:
    from mastaf.fewshot.episodes.listing import write_listing
    from mastaf.fewshot.evaluate import evaluate

    listed = tmp_path / "list.txt"
    write_listing(store, out=listed, split="test", episodes=30, way=3, shot=1, list_seed=5)
    neighbor: dict[str, Any] = {"method_keywords": {"variant": "neighbor"}, "out": tmp_path / "runs" / "x"}
    evaluate(store, episode_list=listed, progress=False, **neighbor)
    without, with_it = (
        _report(mastaf, tmp_path / "runs", store, *more)[1] for more in ((), ("--episode-list", listed))
    )
    assert "supports are known only with that file" in without
    assert "Nearest support of the true class" not in without
    assert with_it.count("Nearest support of the true class") == 6
    assert f"--episode-list {listed}" in with_it


def test_a_head_without_a_run_has_a_command_too(toy_store, tmp_path) -> None:
    import html

    from mastaf.cache import console
    from mastaf.fewshot.cli import cli
    from mastaf.fewshot.evaluate import evaluate
    from mastaf.pipelines.reporting.report import make_report

    out = tmp_path / "runs" / "x"
    keywords = {"variant": "cross", "meta_learner": False, "preset": "paper"}
    evaluate(toy_store, method_keywords=keywords, way=3, episodes=20, out=out, progress=False)
    made = make_report(tmp_path / "runs", features=[toy_store.path], mistakes=0)
    (command,) = re.findall(r"<code>(.*?)</code>", Path(made["out"]).read_text(encoding="utf-8"))
    (record,) = _records(out)
    before = record.with_suffix(".npz").read_bytes()
    record.with_suffix(".npz").unlink()
    with pytest.raises(SystemExit) as left:
        console.run(cli, shlex.split(html.unescape(command))[1:])
    assert not left.value.code
    assert record.with_suffix(".npz").read_bytes() == before


def test_one_head_on_two_kinds_of_cubes_is_compared_by_query(make_store, tmp_path) -> None:
    from mastaf.fewshot.evaluate import evaluate
    from mastaf.pipelines.reporting.report import make_report

    for name, weights in (("one", "ab" * 32), ("two", "cd" * 32)):
        made = make_store(tmp_path / f"{name}.zarr", separation=0.5, weights=weights, seed=len(name + weights[:1] * 2))
        settings: dict[str, Any] = {"method_keywords": {"variant": "neighbor"}, "way": 3, "episodes": 40}
        evaluate(made, out=tmp_path / "runs" / name, progress=False, **settings)
    made = make_report(tmp_path / "runs")
    text = Path(made["out"]).read_text(encoding="utf-8")
    assert made["tables"] == 2
    assert "The same head on other cubes" in text
    assert "2 result files, 0 training runs and 0 stores of cubes were read" in text
    assert "The store was not found" in text


def test_training_alone_and_backbones_have_curves(tmp_path, mastaf) -> None:
    run = tmp_path / "tuned"
    run.mkdir()
    (run / "settings.json").write_text('{"recipe": "episodic", "backbone": "r3d-tiny", "val_episodes": 20}')
    lines = [{"step": n, "loss": 3.0 / n, "val_accuracy": 0.2 * n, "val_ci95": 0.05} for n in (1, 2, 3)]
    (run / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)) + '\n{"step": 4, "lo')
    status, said, _ = mastaf("report", "--runs", tmp_path)
    text = (tmp_path / "report.html").read_text()
    assert status == 0
    assert "0 results in 0 tables, 1 training run;" in said
    assert "val 60.0 ± 5.0 % after 3 steps" in text
    assert "r3d-tiny, episodic" in text
    assert "were trained, but not scored" in text


def test_a_large_page_leaves_parts_out_and_says_so(runs, tmp_path, monkeypatch) -> None:
    from mastaf.pipelines.reporting import report

    monkeypatch.setattr(report, "MOST_DETAIL", 30_000)
    made = report.make_report(runs, out=tmp_path / "small.html", mistakes=0)
    assert made["bytes"] < 250_000
    assert "parts were left out to keep the page small" in (tmp_path / "small.html").read_text()
    monkeypatch.setattr(report, "MOST_BYTES", 10_000)
    with pytest.raises(ValueError, match="at most 0 are written; give --runs a part of it"):
        report.make_report(runs, out=tmp_path / "none.html", mistakes=0)
    assert not (tmp_path / "none.html").exists()


def test_places_that_a_strangers_run_names_are_never_asked(tmp_path, monkeypatch) -> None:
    from mastaf.pipelines.reporting import stores

    def refuse(path: Any) -> Any:
        raise AssertionError(f"{path} was opened")

    monkeypatch.setattr(stores, "open_store", refuse)
    named = ["s3://bucket/x.zarr", "https://host/x.zarr", 3, None, "a\0b.zarr", "x.txt"]
    assert stores.find_stores({"ab"}, given=[], root=tmp_path, named=named) == ({}, [])
