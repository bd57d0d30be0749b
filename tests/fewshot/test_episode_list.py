"""Lists of episodes on disk."""

import hashlib
import json

import numpy as np
import pytest
from mastaf.fewshot.episodes.episode_list import digest_of, read_episode_list, write_episode_list
from mastaf.fewshot.episodes.sampler import EpisodeSampler
from mastaf.fewshot.errors import FewShotError

NAMES = ("brush hair", "fall, then bounce", "grüßen", 'say "hi"', "walk")
CLASSES = [name for name in NAMES for _ in range(8)]
KEYS = [f"{name}/v {i}#(1).mp4" for i, name in enumerate(CLASSES)]
PARTS = ("support", "query", "labels", "classes")


def sampled(**changes):
    options = {"way": 3, "shot": 2, "query_mode": "per_class", "queries": 2, **changes}
    return EpisodeSampler(keys=KEYS, classes=CLASSES, split="test", **options).rows(0, 40)


def same(first, second):
    return all((getattr(first, part) == getattr(second, part)).all() for part in PARTS)


@pytest.fixture
def written(tmp_path):
    path = tmp_path / "list.jsonl"
    write_episode_list(path, sampled(), KEYS, split="test", list_seed=0)
    return path


def test_a_list_comes_back_for_the_same_and_for_another_store(written):
    rows, found = sampled(), read_episode_list(written)
    assert same(found.rows_for(KEYS, CLASSES), rows)
    order = list(reversed(range(len(KEYS))))
    keys, classes = [KEYS[i] for i in order] + ["extra"], [CLASSES[i] for i in order] + ["walk"]
    other = found.rows_for(keys, classes)
    assert (np.array(keys)[other.support] == np.array(KEYS)[rows.support]).all()
    assert (np.array(keys)[other.query] == np.array(KEYS)[rows.query]).all()
    assert same(found.rows_for(KEYS, CLASSES), rows)
    assert len(found) == 40
    assert found.header["split"] == "test"


def test_the_digest_names_the_list_whether_written_or_not(written, tmp_path):
    lines = written.read_bytes().partition(b"\n")[2]
    assert read_episode_list(written).sha256 == digest_of(sampled(), KEYS) == hashlib.sha256(lines).hexdigest()
    assert write_episode_list(tmp_path / "again", sampled(), KEYS, split="other") == digest_of(sampled(), KEYS)
    assert digest_of(sampled(seed=1), KEYS) != digest_of(sampled(), KEYS)


def test_the_bytes_depend_on_the_arguments_alone(written, tmp_path):
    write_episode_list(tmp_path / "b", sampled(), KEYS, list_seed=0, split="test")
    assert (tmp_path / "b").read_bytes() == written.read_bytes()


def test_a_person_can_read_it(written):
    first, second = written.read_text(encoding="utf-8").splitlines()[:2]
    assert json.loads(first)["way"] == 3
    ways, queries = json.loads(second)
    assert len(ways) == 3
    assert all(key in KEYS for way in ways for key in way)
    assert [label for _, label in queries] == [0, 0, 1, 1, 2, 2]


def test_any_edit_is_noticed(written):
    whole = written.read_text(encoding="utf-8")
    first = whole.index("\n")
    label = whole.rindex(", 2]")
    edits = [
        whole[: first + 1] + whole[first + 1 :].replace("v 3#", "v 4#", 1),
        whole[:label] + ", 1]" + whole[label + 4 :],
        whole.replace('"list_seed": 0', '"list_seed": 1'),
        whole.replace('"split": "test"', '"split": "val"'),
        whole[: whole.rindex("\n", 0, -1) + 1],
        whole + whole.splitlines()[-1] + "\n",
        whole.replace("\n", "\r\n"),
    ]
    for edited in edits:
        assert edited != whole
        written.write_bytes(edited.encode())
        with pytest.raises(FewShotError, match="write the list anew"):
            read_episode_list(written)


@pytest.mark.parametrize(
    "content", [b"", b"hello\n", b"[1]\n", b'{"format": "other"}\n', b"\x80\x81", b"{", b"[" * 100_000]
)
def test_what_is_no_list_is_refused(tmp_path, content):
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(FewShotError, match="is not an episode list"):
        read_episode_list(tmp_path / "x")


def test_a_list_that_does_not_exist(tmp_path):
    with pytest.raises(FewShotError, match="does not exist"):
        read_episode_list(tmp_path / "nowhere")


def signed(path, lines, **changes):
    """A list whose digests are right, whatever its lines say."""
    body = "".join(json.dumps(line) + "\n" for line in lines)
    header = {"format": "mastaf-episodes", "version": 1, "sha256": hashlib.sha256(body.encode()).hexdigest()}
    header.update({"episodes": len(lines), "way": 2, "shot": 1, "queries": 1, **changes})
    header["header_sha256"] = hashlib.sha256(json.dumps(header).encode()).hexdigest()
    path.write_text(json.dumps(header) + "\n" + body)
    return path


GOOD = [[["a"], ["b"]], [["c", 1]]]


@pytest.mark.parametrize(
    ("lines", "changes", "words"),
    [
        ([GOOD], {"version": 2}, "version 2"),
        ([GOOD], {"way": 3}, "says way = 3, but has 2"),
        ([GOOD, GOOD], {"episodes": 1}, "says episodes = 1"),
        ([[[["a"], ["b"]], [["c", 2]]]], {}, "way is not from 0 to 1"),
        ([[[["a"], ["b"]], [["c", -1]]]], {}, "way is not from 0 to 1"),
        ([[[["a"], ["b"]], [["a", 0]]]], {}, "episode 0 .* has a video twice"),
        ([[[["a"], ["b", "d"]], [["c", 0]]]], {}, "malformed"),
        ([[[["a"], ["b"]]]], {}, "malformed"),
        ([[[["a"], [["b"]]], [["c", 0]]]], {}, "malformed"),
        ([[[["a"], ["b"]], [["c", 0.5]]]], {}, "malformed"),
        ([[[["a"], ["b"]], [["c", 10**30]]]], {}, "malformed"),
        ([[[["a"], ["b"]], []]], {"queries": 0}, "malformed"),
        ([7], {}, "malformed"),
        ([GOOD], {"sha256": None}, "edited in its first line"),
        ([GOOD], {"note": float("nan")}, "is not an episode list"),
        ([GOOD], {"note": "\ud800"}, "is not an episode list"),
        ([], {}, "malformed"),
    ],
)
def test_a_list_that_breaks_its_rules(tmp_path, lines, changes, words):
    with pytest.raises(FewShotError, match=words):
        read_episode_list(signed(tmp_path / "x", lines, **changes))
    assert len(read_episode_list(signed(tmp_path / "y", [GOOD]))) == 1


def test_keys_that_the_store_lacks_are_named(written):
    kept = [i for i in range(len(KEYS)) if i not in (3, 9)]
    with pytest.raises(FewShotError, match=r"names 2 of its 40 videos .*'brush hair/v 3#\(1\).mp4'") as caught:
        read_episode_list(written).rows_for([KEYS[i] for i in kept], [CLASSES[i] for i in kept])
    assert "\n" not in str(caught.value)


def test_a_store_with_other_classes_is_refused(written):
    swapped = [*CLASSES]
    swapped[0], swapped[39] = swapped[39], swapped[0]
    with pytest.raises(FewShotError, match="one class a way"):
        read_episode_list(written).rows_for(KEYS, swapped)
    with pytest.raises(FewShotError, match="another for each way"):
        read_episode_list(written).rows_for(KEYS, ["all"] * len(KEYS))
