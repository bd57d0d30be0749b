"""`FewShotClassifier`: its answers are those of the plain formula, and its classes can be kept, changed and reused."""

import json
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mastaf.cache.errors import SpecMismatchError
from mastaf.extract.backbones.registry import load_backbone
from mastaf.extract.datasets.by_name import find_dataset
from mastaf.extract.decoding.decode import decode_clip
from mastaf.extract.recipe import make_spec
from mastaf.extract.run import extract
from mastaf.fewshot.errors import FewShotError
from mastaf.fewshot.train import train
from mastaf.pipelines.errors import PipelineError
from mastaf.pipelines.own_videos import making
from mastaf.pipelines.own_videos.classifier import FewShotClassifier
from safetensors import safe_open

EXAMPLE = Path(__file__).parents[2] / "examples" / "classify.py"
CLASSES = ("chase", "rock", "teleport")
SHOTS = 3


@pytest.fixture(scope="module")
def folders(small_motion, tmp_path_factory):
    """(support, queries), each CLASS/VIDEO of other clips; never changed."""
    root = tmp_path_factory.mktemp("own")
    for name in CLASSES:
        clips = sorted((small_motion / "test" / name).iterdir())
        for part, chosen in (("support", clips[:SHOTS]), ("queries", clips[SHOTS : SHOTS + 2])):
            (root / part / name).mkdir(parents=True)
            for clip in chosen:
                shutil.copy(clip, root / part / name)
    return root / "support", root / "queries"


@pytest.fixture(scope="module")
def saved(folders, tmp_path_factory):
    """A file of the three classes."""
    path = tmp_path_factory.mktemp("saved") / "my.classes"
    FewShotClassifier.enrol(folders[0]).save(path)
    return path


@pytest.fixture
def classifier(saved):
    return FewShotClassifier.load(saved)


@pytest.fixture(scope="module")
def cube_of():
    """A clip's cube [c, t, h, w] as the store would have it, without this package."""
    backbone = load_backbone("r3d-tiny")
    run = backbone.prepare_for_inference("auto")

    def cube(path):
        clip = decode_clip(path, frames=backbone.frames, rule=backbone.pixels)
        return run(torch.from_numpy(clip.pixels)[None])[0].numpy().astype(np.float16).astype(np.float64)

    return cube


@pytest.fixture
def decoded(monkeypatch):
    """The names of the clips that are decoded from now on."""
    names = []

    def watched(clips, *rest, **how):
        names.extend(f"{clip.path.parent.name}/{clip.path.name}" for clip in clips)
        return ahead(clips, *rest, **how)

    ahead = making.decode_ahead
    monkeypatch.setattr(making, "decode_ahead", watched)
    return names


def test_answers_are_those_of_the_plain_formula(folders, classifier, cube_of):
    support, queries = folders
    means = [np.mean([cube_of(path).mean((1, 2, 3)) for path in (support / name).iterdir()], 0) for name in CLASSES]
    temperature, threshold = classifier.enrolment.calibration.temperature, classifier.enrolment.calibration.threshold
    answers = classifier.classify(queries)
    assert len(answers) == 6
    for answer in answers:
        asked = cube_of(Path(answer.path)).mean((1, 2, 3))  # [c]
        cosines = np.array([m @ asked / np.linalg.norm(m) / np.linalg.norm(asked) for m in means])  # [way]
        powers = np.exp(7 * cosines / temperature)  # MASTAF's scale is 7
        first, second = np.argsort(-cosines)[:2]
        assert answer.nearest == CLASSES[first]
        assert answer.runner_up == CLASSES[second]
        assert answer.probability == pytest.approx(powers[first] / powers.sum(), abs=1e-3)
        assert answer.runner_up_probability == pytest.approx(powers[second] / powers.sum(), abs=1e-3)
        assert answer.score == pytest.approx(7 * cosines[first], abs=1e-2)
        assert answer.rejected == (answer.score < threshold)
        assert answer.label == (None if answer.rejected else answer.nearest)
        assert not answer.error


def test_as_scikit_learn_has_it(folders, classifier):
    support, queries = folders
    clips = sorted(support.rglob("*.mp4"))
    made = FewShotClassifier(precision=classifier.enrolment.spec.precision)
    with pytest.raises(PipelineError, match="nothing is enrolled"):
        made.predict(clips)
    assert made.fit(clips, [path.parent.name for path in clips]) is made
    assert made.classes_.tolist() == list(CLASSES)
    asked = sorted(queries.rglob("*.mp4"))
    answers = classifier.classify(queries)
    probabilities = made.predict_proba(asked)
    np.testing.assert_allclose(probabilities.sum(1), 1)
    assert made.predict(asked).tolist() == [answer.nearest for answer in answers]
    np.testing.assert_allclose(probabilities.max(1), [answer.probability for answer in answers])
    assert made.decision_function(asked).shape == (6, 3)
    right = [answer.nearest == path.parent.name for answer, path in zip(answers, asked, strict=True)]
    assert made.score(asked, [path.parent.name for path in asked]) == np.mean(right)
    with pytest.raises(PipelineError, match="must be as many"):
        made.fit(clips, ["rock"])
    with pytest.raises(PipelineError, match=r"nowhere\.mp4"):
        made.predict([queries / "nowhere.mp4"])


def test_the_file_holds_facts_and_tensors_that_anybody_reads(saved, classifier):
    with safe_open(saved, framework="np") as file:
        facts = json.loads(file.metadata()["mastaf"])
        cubes = file.get_tensor("cubes")
    backbone = load_backbone("r3d-tiny")
    spec = make_spec(backbone, views=("plain",), sampling="even", precision=facts["spec"]["precision"])
    assert facts["recipe"] == spec.recipe == classifier.enrolment.spec.recipe
    assert (facts["spec"]["backbone"], facts["spec"]["weights"]) == ("r3d-tiny", backbone.weights_sha256)
    assert (cubes.dtype, cubes.shape) == (np.float16, (9, 128, 4, 4, 4))
    assert [example["class_name"] for example in facts["examples"]] == [name for name in CLASSES for _ in range(SHOTS)]
    assert facts["head"]["run"] == ""


def test_classes_come_and_go_without_the_others_being_computed_again(folders, saved, decoded, small_motion):
    support, queries = folders
    more = {"launch": sorted((small_motion / "test" / "launch").iterdir())[:2]}
    changed = FewShotClassifier.load(saved).add(more).remove("teleport").rename("rock", "sway")
    assert decoded == [f"launch/{path.name}" for path in more["launch"]]
    anew = FewShotClassifier.enrol(
        {name: sorted((support / old).iterdir()) for name, old in (("chase", "chase"), ("sway", "rock"))} | more
    )
    assert changed.classes_.tolist() == anew.classes_.tolist() == ["chase", "sway", "launch"]
    assert changed.enrolment.calibration == anew.enrolment.calibration
    one, two = (made.classify(queries) for made in (changed, anew))
    assert one == two


def test_enrolling_again_computes_new_clips_alone(folders, saved, decoded, tmp_path):
    support, queries = folders
    shutil.copytree(support, tmp_path / "now")
    (tmp_path / "now" / "rock").rename(tmp_path / "now" / "sway")
    new = next((queries / "chase").iterdir())
    shutil.copy(new, tmp_path / "now" / "chase")
    made = FewShotClassifier.enrol(tmp_path / "now", reuse=FewShotClassifier.load(saved))
    assert decoded == [f"chase/{new.name}"]
    assert made.enrolment.counts == {"chase": SHOTS + 1, "sway": SHOTS, "teleport": SHOTS}


def test_a_renaming_with_another_reject_rate_takes_it(saved):
    before = FewShotClassifier.load(saved).enrolment.calibration
    after = FewShotClassifier.load(saved, reject_rate=0.5).rename("rock", "sway").enrolment.calibration
    assert (before.reject_rate, after.reject_rate, after.temperature) == (0.05, 0.5, before.temperature)
    assert after.threshold > before.threshold


def test_renaming_keeps_the_calibration_and_names_stay_text(classifier):
    before = classifier.enrolment.calibration
    classifier.rename("rock", "<script>alert('&')</script>")
    assert classifier.enrolment.calibration == before
    assert classifier.classes_[1] == "<script>alert('&')</script>"
    with pytest.raises(PipelineError, match="a class 'chase' already"):
        classifier.rename("teleport", "chase")
    with pytest.raises(PipelineError, match="did you mean teleport"):
        classifier.remove("teleprot")
    with pytest.raises(PipelineError, match="must not be blank"):
        classifier.rename("teleport", "  ")
    with pytest.raises(PipelineError, match=r"classes \(1\) must be two or more"):
        classifier.change(remove=["chase", "teleport"])


@pytest.fixture(scope="module")
def store(small_motion, tmp_path_factory):
    """Cubes of three train and two val classes."""
    root = tmp_path_factory.mktemp("others")
    for split, names in (("train", ("shake", "grow", "pong")), ("val", ("pulse", "swap"))):
        for name in names:
            shutil.copytree(small_motion / split / name, root / "videos" / split / name)
    extract(find_dataset("folder", root=root / "videos"), load_backbone("r3d-tiny"), out=root / "cubes.zarr")
    from mastaf.cache.store import open_store

    return open_store(root / "cubes.zarr")


def test_one_clip_a_class_has_scores_until_a_store_says_what_they_mean(folders, store):
    support, queries = folders
    one = {name: [min((support / name).iterdir())] for name in CLASSES}
    made = FewShotClassifier.enrol(one)
    assert not made.calibrated
    answer, *_ = made.classify(queries)
    assert (answer.probability, answer.runner_up_probability, answer.rejected) == (None, None, False)
    assert answer.label == answer.nearest
    assert answer.score > answer.runner_up_score
    with pytest.raises(PipelineError, match="not calibrated"):
        made.predict_proba([])
    made.calibrate = store.path
    found = made.remove("teleport").enrolment.calibration
    assert found is not None
    assert (found.way, found.answers) == (2, 1000)
    assert "val classes" in found.source
    assert 0 < made.classify(queries)[0].probability <= 1
    made.calibrate = None
    assert not made.add({"teleport": one["teleport"]}).calibrated  # what was learnt was for other classes


@pytest.fixture(scope="module")
def run(store, tmp_path_factory):
    """A head trained on the store."""
    out = tmp_path_factory.mktemp("runs") / "run"
    train(store, out=out, way=3, shot=1, train_episodes=32, select_on="none")
    return out


def test_a_trained_head_scores_and_needs_its_run_no_more(folders, run, tmp_path):
    support, queries = folders
    shutil.copytree(run, tmp_path / "run")
    made = FewShotClassifier.enrol(support, checkpoint=tmp_path / "run")
    head = made.enrolment.head
    assert (head.method, head.keywords["variant"], head.run) == ("mastaf", "full", str(tmp_path / "run"))
    made.save(tmp_path / "my.classes")
    before = made.classify(queries)
    shutil.rmtree(tmp_path / "run")
    assert FewShotClassifier.load(tmp_path / "my.classes").classify(queries) == before
    with pytest.raises(PipelineError, match="must exist"):
        FewShotClassifier.enrol(support, checkpoint=tmp_path / "run")


def test_a_head_of_another_backbone_is_refused(folders, store, run):
    for settings, error, words in (
        ({"weights": "random"}, SpecMismatchError, "weights: "),
        ({"frames": 8}, FewShotError, "128x2x4x4"),
        ({"resize": "short"}, SpecMismatchError, "resize: squash"),
        ({"method": "otam"}, PipelineError, "a checkpoint fixes the method"),
    ):
        with pytest.raises(error, match=words):
            FewShotClassifier.enrol(folders[0], checkpoint=run, **settings)
    with pytest.raises(FewShotError, match="must be trained"):
        FewShotClassifier.enrol(folders[0], method="feat")
    with pytest.raises(SpecMismatchError, match="weights: "):
        FewShotClassifier.enrol(folders[0], weights="random", calibrate=store.path)


def test_the_tuned_weights_beside_a_head_are_its_backbone(folders, small_motion, tmp_path):
    from mastaf.extract.backbones.weights import write_weights
    from mastaf.pipelines.finetuning.results import HEAD_FOLDER
    from mastaf.pipelines.finetuning.settings import WEIGHTS_FILE

    tuned = load_backbone("r3d-tiny", weights="random")
    write_weights(tmp_path / WEIGHTS_FILE, tuned.module.state_dict(), provenance={"backbone": "r3d-tiny"})
    for name in ("shake", "grow"):
        shutil.copytree(small_motion / "train" / name, tmp_path / "videos" / "train" / name)
    backbone = load_backbone("r3d-tiny", weights=str(tmp_path / WEIGHTS_FILE))
    extract(find_dataset("folder", root=tmp_path / "videos"), backbone, out=tmp_path / "cubes.zarr")
    from mastaf.cache.store import open_store

    train(open_store(tmp_path / "cubes.zarr"), out=tmp_path / HEAD_FOLDER, way=2, shot=1, train_episodes=32)
    made = FewShotClassifier.enrol(folders[0], checkpoint=tmp_path / HEAD_FOLDER)
    assert made.enrolment.spec.weights == tuned.weights_sha256
    made.save(tmp_path / "my.classes")
    assert FewShotClassifier.load(tmp_path / "my.classes").classify(folders[1])[0].nearest in CLASSES


def test_weights_that_are_not_those_of_enrolment_are_refused(folders, saved):
    with pytest.raises(SpecMismatchError, match="weights: "):
        FewShotClassifier.load(saved, weights="random").classify(folders[1])
    with pytest.raises(PipelineError, match="frames: a file of classes fixes network and head"):
        FewShotClassifier.load(saved, frames=8)


def test_a_process_that_classifies_loads_nothing_it_can_do_without(folders, saved):
    program = (
        "import sys\nfrom mastaf.pipelines.own_videos.classifier import FewShotClassifier\n"
        "made = FewShotClassifier.load(sys.argv[1])\n"
        "assert 'torch' not in sys.modules\n"
        "assert made.classify(sys.argv[2])[0].label\n"
        "print(*sorted({'transformers', 'torch._dynamo', 'scipy', 'zarr', 'h5py'} & set(sys.modules)))"
    )
    clip = next((folders[1] / "rock").iterdir())
    command = [sys.executable, "-W", "error", "-c", program, str(saved), str(clip)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []


def test_the_example_runs(folders, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "new").mkdir()
    for name in ("rock", "chase"):
        shutil.copy(next((folders[1] / name).iterdir()), tmp_path / "new" / f"{name}.mp4")
    (tmp_path / "new" / "broken.mp4").write_text("no video")
    monkeypatch.setattr(sys, "argv", [str(EXAMPLE), str(folders[0]), "new"])
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(": ")[0] for line in lines] == ["new/broken.mp4", "new/chase.mp4", "new/rock.mp4"]
    assert "not a video" in lines[0]
    assert lines[2].startswith("new/rock.mp4: rock (")
