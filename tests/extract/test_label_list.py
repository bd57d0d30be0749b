"""Label lists in the forms in which they come, and in forms that are no list at all."""

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mastaf.cache.index import VideoIndex
from mastaf.extract.errors import ExtractError
from mastaf.extract.labels.label_list import MAX_LABELS, compare, read_labels

LABELS = ("abseiling", "air drumming", "passing American football (in game)")


def index(classes, split="test"):
    keys = tuple(f"{name}/1" for name in classes)
    return VideoIndex(keys, keys, tuple(classes), (split,) * len(keys), ("",) * len(keys))


@pytest.mark.parametrize(
    ("text", "notes"),
    [
        ("\n".join(LABELS), 0),
        ("\ufeff" + "\r\n".join(LABELS) + "\r\n\r\n", 0),
        ("\r".join(f"  {label}\t" for label in LABELS), 0),
        ("\n".join(f'"{label}"' for label in LABELS), 0),
        ("\n".join(f"{i},{label}" for i, label in enumerate(LABELS)), 1),
        ("\n".join(f"{i} {label}" for i, label in enumerate(LABELS)), 1),
        ("\n".join(f"{i}\t{label}" for i, label in enumerate(LABELS)), 1),
        ("\n".join(f'"{i}"; "{label}"' for i, label in enumerate(LABELS)), 1),
        ("\n".join(f"{i}: {label}" for i, label in enumerate(LABELS)), 1),
        ("\n".join(f"{label},{i}" for i, label in enumerate(LABELS)), 1),
        ("\n".join(f"{label}\t{i}" for i, label in enumerate(LABELS)), 1),
        ("id,name\n" + "\n".join(f"{i},{label}" for i, label in enumerate(LABELS)), 2),
        ("label;number\n" + "\n".join(f"{label};{i}" for i, label in enumerate(LABELS)), 2),
        ("\n".join(f"{i},{label},{i * 7}" for i, label in enumerate(LABELS)), 2),
        ("\n".join((*LABELS, LABELS[0], LABELS[0])), 1),
    ],
)
def test_forms_of_a_list(tmp_path, text, notes):
    path = tmp_path / "labels.csv"
    path.write_bytes(text.encode())
    found = read_labels(path)
    assert found.labels == LABELS
    assert len(found.notes) == notes
    assert (found.name, found.sha256) == ("labels.csv", hashlib.sha256(text.encode()).hexdigest())


@pytest.mark.parametrize(
    "lines",
    [
        ["Letting something roll up a slanted surface, so it rolls back down", "Opening something"],
        ["3 people dancing", "walking"],  # numbers in some lines belong to the labels
        ["walking", "3 people dancing", "4 people dancing"],
        ["formation 4", "formation 6"],
        ["[Something] falling", "pushing [something]"],
        ["0,abseiling"],
        ["跳绳", "滑雪"],
    ],
)
def test_lines_that_are_taken_whole(tmp_path, lines):
    path = tmp_path / "labels.txt"
    path.write_text("\n".join(lines), encoding="utf-8")
    assert read_labels(path).labels == tuple(lines)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "it is empty"),
        (b"\n \r\n", "it is empty"),
        (bytes(range(1, 65)) + b"\xff\xfe", "UTF-8"),
        (b"abseiling\0\0\n", "it is a binary file"),
        (b"a\n" * (MAX_LABELS + 1), f"not {MAX_LABELS + 1}"),
        (b"running\n" * 2_200_000, "at most 16 MB"),
        (b"run " * 1000, "a line has 3999 characters"),
        (b'["abseiling", "archery"]', "it is JSON"),
        (b'{\n"0": "abseiling"}', "it is JSON"),
        (b"0\n1\n2\n", "'0' has no letters"),
        (b"abseiling\n--\n", "'--' has no letters"),
    ],
)
def test_what_is_no_list_is_one_line(tmp_path, data, words):
    path = tmp_path / "labels.txt"
    path.write_bytes(data)
    with pytest.raises(ExtractError, match=words) as refused:
        read_labels(path)
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 400 + len(str(path))


def test_no_file(tmp_path):
    with pytest.raises(ExtractError, match="does not exist; give the label list"):
        read_labels(tmp_path / "nope.txt")
    with pytest.raises(ExtractError, match="it is a folder"):
        read_labels(tmp_path)
    with pytest.raises(ExtractError, match="at most 16 MB"):
        read_labels(Path("/dev/zero"))


@given(st.lists(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12), max_size=8))
def test_any_lines_are_labels_or_an_error(tmp_path_factory, lines):
    path = tmp_path_factory.getbasetemp() / "any.txt"
    path.write_text("\n".join(lines), encoding="utf-8")
    try:
        labels = read_labels(path).labels
    except ExtractError:
        return
    assert len(set(labels)) == len(labels) <= len(lines)
    assert all(any(label in line.replace('""', '"') for line in lines) for label in labels)


def test_the_test_classes_alone_are_compared(tmp_path):
    path = tmp_path / "labels.txt"
    path.write_text("running\nwalking\n")
    rows = [("run", "train"), ("Walking", "test"), ("sit", "test")]
    keys = tuple(name for name, _ in rows)
    found = compare(read_labels(path), VideoIndex(keys, keys, keys, tuple(split for _, split in rows), ("",) * 3))
    assert found.counts == {"same": 1, "near": 0, "none": 1, "all": 2}
    assert found.classes["Walking"] == {"grade": "same", "why": "same words", "labels": ["walking"], "more": 0}
    assert found.n_labels == 2
    with pytest.raises(ExtractError, match="this data set has none"):
        compare(read_labels(path), index(["run"], split="train"))
