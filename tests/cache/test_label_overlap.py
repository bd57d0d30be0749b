"""The finding on pretraining labels: beside any store, whole or not at all, checked when read, copied along."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import zarr
from mastaf.cache import cli, console
from mastaf.cache.convert import convert_store
from mastaf.cache.errors import CacheError, CorruptStoreError
from mastaf.cache.label_overlap import LabelOverlap, pretraining_data
from mastaf.cache.store import create_store, open_store
from mastaf.cache.verify import verify_store

FACTS = {"pretraining": ["Kinetics-700", "Moments in Time"], "pretraining_classes": 1039}


def overlap(names, **changes):
    """Every class but the first has a label."""
    none = {"grade": "none", "why": "", "labels": [], "more": 0}
    near = {"grade": "near", "why": "same words", "labels": ["walking", "wälking \x1b[2J"], "more": 3}
    fields: dict[str, Any] = {
        "labels_file": "kinetics700.txt",
        "labels_sha256": "ab" * 32,
        "n_labels": 700,
        "rule": "words 1",
        "notes": ("2 repeated labels left out",),
        "classes": {name: near if i else none for i, name in enumerate(names)},
    }
    return LabelOverlap(**(fields | changes))


def file_of(store) -> Path:
    name = "label_overlap/zarr.json" if store.path.suffix == ".zarr" else "label_overlap.json"
    return store.path / name if store.path.suffix == ".zarr" else Path(f"{store.path}.shards") / name


@pytest.fixture
def info(capsys):
    def call(*arguments):
        with pytest.raises(SystemExit) as leaving:
            console.run(cli.cli, ["info", *map(str, arguments)])
        out, err = capsys.readouterr()
        return leaving.value.code, out, err

    return call


def test_it_is_kept_beside_a_store_and_replaced(tmp_path, make, kind):
    suffix, how = kind
    store, cubes = make.full(tmp_path / f"s{suffix}", **how)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert store.label_overlap() is None
    first, second = overlap(["wälk 2"]), overlap(["wälk 2"], n_labels=701)
    store.write_label_overlap(first)
    assert open_store(store.path).label_overlap() == first
    store.write_label_overlap(second)
    again = open_store(store.path)
    assert again.label_overlap() == store.label_overlap() == second
    assert again.digest == store.digest
    assert verify_store(again) == []
    assert (again.read([0]) == cubes[[0], 0]).all()
    assert all(path.read_bytes() == data for path, data in before.items())
    assert {path for path in tmp_path.rglob("*") if path.is_file()} - set(before) == {file_of(store)}


def test_plain_zarr_reads_it(tmp_path, make):
    store, _ = make.full(tmp_path / "s.zarr")
    store.write_label_overlap(overlap(["wälk 2"]))
    group = zarr.open_group(store.path, mode="r")
    assert dict(group["label_overlap"].attrs)["n_labels"] == 700
    assert dict(group["label_overlap"].attrs)["counts"] == {"same": 0, "near": 0, "none": 1, "all": 1}
    assert "cubes" in dict(group.members())


def test_a_copy_has_it(tmp_path, make, suffix):
    store, _ = make.full(tmp_path / f"a{suffix}")
    store.write_label_overlap(overlap(["wälk 2"]))
    other = convert_store(store.path, tmp_path / ("b.h5" if suffix == ".zarr" else "b.zarr"))
    assert other.label_overlap() == store.label_overlap()


@pytest.mark.parametrize(
    "change",
    [
        {"n_labels": 0},
        {"n_labels": "many"},
        {"counts": {"same": 9}},
        {"colour": "red"},
        {"classes": {}},
        {"classes": {"wälk 2": {"grade": "same"}}},
        {"classes": {"wälk 2": {"grade": "perhaps", "why": "", "labels": [], "more": 0}}},
        {"classes": {"wälk 2": {"grade": "same", "why": "", "labels": [], "more": 0}}},
        {"classes": {"wälk 2": {"grade": "same", "why": "", "labels": [1], "more": 0}}},
        {"classes": {"wälk 2": {"grade": "none", "why": "", "labels": [], "more": -1}}},
        {"classes": {"another": {"grade": "none", "why": "", "labels": [], "more": 0}}},
    ],
    ids=str,
)
def test_what_is_no_finding_is_refused(tmp_path, make, suffix, change):
    store, _ = make.full(tmp_path / f"s{suffix}")
    store.write_label_overlap(overlap(["wälk 2"]))
    document = json.loads(file_of(store).read_text())
    (document["attributes"] if suffix == ".zarr" else document).update(change)
    file_of(store).write_text(json.dumps(document))
    with pytest.raises(CorruptStoreError, match=r"damaged.*--labels again"):
        store.label_overlap()


@pytest.mark.parametrize("damage", ["cut", "link", "empty"])
def test_damage_is_one_line_and_a_new_finding_mends_it(tmp_path, make, suffix, info, damage):
    store, _ = make.full(tmp_path / f"s{suffix}")
    store.write_label_overlap(overlap(["wälk 2"]))
    path = file_of(store)
    if damage == "link":
        path.rename(tmp_path / "elsewhere.json")
        path.symlink_to(tmp_path / "elsewhere.json")
    else:
        path.write_bytes(path.read_bytes()[:20] if damage == "cut" else b"")
    status, _, err = info(store.path)
    assert (status, err.count("\n")) == (2, 1)
    assert "the finding on pretraining labels" in err
    with pytest.raises(CorruptStoreError):
        verify_store(store)
    store.write_label_overlap(overlap(["wälk 2"]))
    assert store.label_overlap() == overlap(["wälk 2"])


def test_info_says_what_was_found(tmp_path, make, kind, info):
    suffix, how = kind
    names = [f"wälk {i}" for i in range(4)]
    index = make.index(4)
    index = replace(index, classes=tuple(names), splits=("test",) * 4)
    header = make.header(**how, provenance={"weights_facts": FACTS})
    store = create_store(tmp_path / f"s{suffix}", header=header, index=index)
    status, out, _ = info(store.path)
    assert status == 0
    assert "pretraining of the weights: Kinetics-700, Moments in Time\n  not compared" in out
    store.write_label_overlap(overlap(names))
    status, out, err = info(store.path, "--json", tmp_path / "i.json")
    assert (status, err) == (0, "")
    for text in (
        "3 of 4 test classes",
        "0 same, 3 near (kinetics700.txt, 700 labels)",
        r"near  wälk 1: walking, wälking \x1b[2J and 3 more (same words)",
        "none  wälk 0\n",
        "Synonyms are not seen",
        "2 repeated labels left out",
        "saw 1039 classes, 339 more than the list has",
    ):
        assert text in out
    facts = json.loads((tmp_path / "i.json").read_text())["pretraining"]
    assert facts["data"] == FACTS["pretraining"]
    assert LabelOverlap.from_json(facts["overlap"]) == overlap(names)


@pytest.mark.parametrize(
    ("facts", "data"),
    [
        (FACTS, FACTS["pretraining"]),
        ({"pretraining": []}, []),
        ({"pretraining": "Kinetics"}, None),
        ({}, None),
        (None, None),
        ([1], None),
        ({"pretraining": [1, None]}, ["1", "None"]),
    ],
)
def test_what_strangers_say_of_their_weights(facts, data):
    assert pretraining_data(facts) == data
    assert overlap(["a"]).lines(facts)


def test_random_weights_saw_nothing():
    assert any("random" in line for line in overlap(["a"]).lines({"pretraining": []}))


def test_a_finding_must_be_one():
    with pytest.raises(CacheError, match="n_labels"):
        overlap(["a"], n_labels=0)
    with pytest.raises(CacheError, match="the finding on 'a'"):
        overlap([], classes={"a": {"grade": "same"}})
