"""docs/methods.md says what the methods say of themselves."""

import json
import shutil
from pathlib import Path

import pytest
from mastaf.fewshot.cli_options import method_keywords, words_of
from mastaf.fewshot.errors import FewShotError
from mastaf.fewshot.methods import METHODS
from mastaf.fewshot.methods.describe import FIRST, LAST, facts, with_table

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")


def test_the_document_is_up_to_date():
    assert with_table(TEXT) == TEXT, "run: python -m mastaf.fewshot.methods.describe docs/methods.md"


def test_every_method_has_its_row_and_its_slow_version():
    for name in METHODS:
        assert f"| `{name}` " in TEXT
        assert (ROOT / "tests" / "fewshot" / "reference" / f"{name}_loops.py").is_file()


def test_the_published_sizes_are_the_ones_counted():
    """Of 2048 channels, as the papers' sizes give them."""
    c = 2048
    assert facts("feat")[2] == f"{4 * c * c + c + 2 * c:,}"
    assert facts("pal")[2] == f"{4 * c * c + 4 * c:,}"
    assert facts("trx")[2] == f"{sum(2 * (w * c * 1152 + 1152) + 2 * 1152 for w in (2, 3)):,}"


@pytest.mark.parametrize("text", ["", FIRST, f"{LAST} {FIRST}", f"{FIRST} {FIRST} {LAST}"])
def test_a_document_without_its_marks_is_refused(text):
    with pytest.raises(FewShotError, match="once, in this order"):
        with_table(text)


def test_a_head_without_parameters_trains_to_an_evaluable_run(call, toy_store):
    code, out, err = call("train", "--features", toy_store.path, "--method", "tsnpp", "--way", 3, "--out", "run")
    assert (code, "nothing to train" in out + err) == (0, True)
    arguments = ("--checkpoint", "run", "--episodes", 20, "--json", "found.json")
    code, _, err = call("evaluate", "--features", toy_store.path, *arguments)
    assert code == 0, err


# Settings of a short training of a method -> query mode and queries of its training episodes.
FEW = ["--train-episodes", 4, "--batch", 2, "--val-episodes", 4]
TRAINED = {
    "feat": ([*FEW, "--set", "temperature=8", "--queries", 2], ("per_class", 2)),
    "trx": ([*FEW, "--set", "cardinalities=1,2", "--set", "width=8"], ("per_class", 5)),
    "protogan": (["--set", "encoder_steps=2", "--set", "gan_steps=1"], ("single", 1)),
    "simpleshot": ([], ("single", 1)),
}


@pytest.mark.parametrize("method", TRAINED)
def test_a_trained_head_answers_single_queries_unless_told(call, toy_store, method):
    settings, wanted = TRAINED[method]
    words = ["--method", method, "--way", 3, "--out", "run", *settings]
    code, _, err = call("train", "--features", toy_store.path, *words)
    assert code == 0, err
    config = json.loads(Path("run/config.json").read_text())
    code, _, err = call("evaluate", "--features", toy_store.path, "--checkpoint", "run", "--episodes", 20)
    assert code == 0, err
    found = json.loads(next(Path("run/results").glob("*.json")).read_text())
    assert (config["query_mode"], config["queries"]) == wanted
    told = "--queries" in settings
    assert (found["query_mode"], found["queries"]) == (wanted if told else ("single", 1))


REFUSED = [
    (["train", "--method", "pal", "--query-mode", "single"], "must be 'per_class' for pal"),
    (["train", "--method", "protogan", "--train-episodes", "8"], "not trained by episodes; leave --train-episodes out"),
    (["train", "--method", "simpleshot", "--lr", "1", "--queries", "2"], "leave --queries, --lr out"),
    (["train", "--method", "trx", "--set", "cardinalities"], "must be NAME=VALUE"),
    (["train", "--method", "trx", "--set", "tokens=place"], "unknown tokens 'place'"),
    (["train", "--method", "otam", "--set", "lamb=1"], "unknown keyword of OTAM 'lamb'; did you mean lam"),
    (["train", "--method", "otam", "--tau", "1"], "unknown keyword of OTAM 'tau'"),
    (["train", "--method", "cmn", "--variant", "lite", "--set", "variant=lite"], "'variant' is given twice"),
    (["evaluate", "--method", "feat"], "the scores of feat depend on parameters that must be trained"),
    (["evaluate", "--method", "trx", "--set", "width=8"], "--method trx\n"),
    (["evaluate", "--method", "protogan"], "the scores of protogan depend on parameters that must be trained"),
]


@pytest.mark.parametrize(("words", "says"), REFUSED, ids=[" ".join(words[2:]) for words, _ in REFUSED])
def test_what_cannot_be_is_refused_in_a_line(call, toy_store, words, says):
    code, _, err = call(words[0], "--features", toy_store.path, *words[1:])
    assert code == 2
    assert says in err
    assert "Traceback" not in err


def test_weights_of_another_method_are_refused(call, toy_store):
    for method in ("feat", "pal"):
        words = ["--method", method, "--way", 3, "--queries", 1, "--train-episodes", 2, "--batch", 2]
        code, _, err = call("train", "--features", toy_store.path, *words, "--val-episodes", 2, "--out", method)
        assert code == 0, err
    shutil.copy("pal/best.safetensors", "feat/best.safetensors")
    code, _, err = call("evaluate", "--features", toy_store.path, "--checkpoint", "feat", "--episodes", 20)
    assert code == 2
    assert "best.safetensors" in err


def test_keywords_of_a_method_are_words_and_back():
    keywords = {"variant": "memory", "cardinalities": [2, 3], "tokens": "space", "balance": 0, "bias": False}
    words = words_of({"method": "trx", "method_keywords": keywords})
    assert words[:4] == ["--method", "trx", "--variant", "memory"]
    texts = tuple(words[number + 1] for number, word in enumerate(words) if word == "--set")
    assert method_keywords({"variant": "memory", "more_keywords": texts}) == keywords
    assert method_keywords({"more_keywords": ("cardinalities=2,3",)}) == {"cardinalities": [2, 3]}


@pytest.mark.parametrize(("method", "says"), [("otam", "mean cosine to the shots"), ("chamferpp", "clips of 1")])
def test_what_short_cubes_leave_of_a_method_is_said(call, toy_store, method, says):
    code, out, err = call("evaluate", "--features", toy_store.path, "--method", method, "--way", 3, "--episodes", 5)
    assert code == 0, err
    assert says in out + err
