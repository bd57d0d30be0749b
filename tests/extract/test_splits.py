"""The class tables of the published splits."""

import pytest
from mastaf.cache.index import SPLITS
from mastaf.extract.datasets.naming import fold, squeeze
from mastaf.extract.errors import ExtractError
from mastaf.extract.splits.table import load_split

# Classes and videos of train, val and test as the papers and repositories state them.
PUBLISHED = {
    "ucf101-arn": ((70, 10, 21), (9154, 1421, 2745)),
    "hmdb51-arn": ((31, 10, 10), (4280, 1194, 1292)),
    "ssv2-cmn": ((64, 12, 24), (6400, 1200, 2400)),
    "ssv2-otam": ((64, 12, 24), (67013, 1926, 2857)),
    "kinetics-cmn": ((64, 12, 24), (6400, 1200, 2400)),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_counts_are_those_published(name):
    table = load_split(name)
    classes, videos = PUBLISHED[name]
    assert tuple(len(table.of(split)) for split in SPLITS) == classes
    assert tuple(table.n_videos(split) for split in SPLITS) == videos


@pytest.mark.parametrize("name", PUBLISHED)
def test_no_class_is_in_two_splits_however_it_is_spelled(name):
    table = load_split(name)
    for spelling in (str, fold, squeeze):
        assert len({spelling(c.name) for c in table.classes}) == len(table.classes)
        assert len({spelling(c.id) for c in table.classes}) == len(table.classes)


def test_totals_are_the_whole_data_sets():
    assert sum(c.n_videos for c in load_split("ucf101-arn").classes) == 13320
    assert sum(c.n_videos for c in load_split("hmdb51-arn").classes) == 6766


def test_otam_ids_number_the_sorted_labels_of_each_split():
    table = load_split("ssv2-otam")
    for split in SPLITS:
        labels = [c.name for c in table.of(split)]
        assert [c.id for c in table.of(split)] == [f"{split}{n}" for n in range(len(labels))]
        assert labels == sorted(labels)
    # The classes with too few videos for 5 shots and 15 queries.
    assert sorted(c.n_videos for c in table.of("test"))[:2] == [17, 18]


def test_an_unknown_split_names_close_ones():
    with pytest.raises(ExtractError, match="hmdb51-arn"):
        load_split("hmdb51-arm")
