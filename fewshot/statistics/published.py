"""The numbers of the paper's Tables 1 to 3: Liu et al., "MASTAF", WACV 2023.

Where the paper quotes a number from elsewhere, the number is the paper's: it marks TSN++ as "Results from [3]" (OTAM's
paper), FEAT as "Results from [40]" (PAL's).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from .paper_cubes import misfit

NOTE = "published: fine-tuned backbone, other protocol"
# The paper on its R3D baselines: "one representation using pre-trained R3D" is extracted "from each video and then go
# through the matching part". It says nothing of tuning R3D there.
NOTE_PRETRAINED = "published: pre-trained backbone by the paper's text, other protocol"
_PRETRAINED = (("baseline", "r3d"), ("matchingnet", "r3d"), ("trx", "r3d"))

# Classes and videos of the test splits, as in the class tables of extract/splits: ARN's for HMDB51 and UCF101, CMN's
# and OTAM's for Something-Something v2.
TEST_SPLITS = {"hmdb51": (10, 1292), "ucf101": (21, 2745), "ssv2-cmn": (24, 2400), "ssv2-otam": (24, 2857)}


@dataclass(frozen=True)
class Column:
    """One column of a table. dataset: of ours; label: as printed."""

    dataset: str
    label: str
    shot: int


@dataclass(frozen=True)
class PublishedRow:
    """One row. label, group: as printed; method, variant: of ours (None: any); backbone: of ours; network: of the
    published number where it is none of ours; values: accuracy in %, a column each, None where the paper has none."""

    label: str
    group: str
    method: str
    backbone: str
    values: tuple[float | None, ...]
    variant: str | None = None
    network: str = ""

    @property
    def note(self) -> str:
        """What the row's numbers are, beside ours."""
        return NOTE_PRETRAINED if (self.method, self.backbone) in _PRETRAINED else NOTE


@dataclass(frozen=True)
class PublishedTable:
    """One table of the paper."""

    number: int
    title: str
    columns: tuple[Column, ...]
    rows: tuple[PublishedRow, ...]


@dataclass(frozen=True)
class Published:
    """One number, in %, where it stands, and what it is beside ours."""

    value: float
    table: int
    row: str
    note: str


_2D, _3D, _TRANSFORMER = "2D CNN", "3D CNN", "Transformer"
_SSV2 = (
    Column("ssv2-cmn", "SSv2-part", 1),
    Column("ssv2-cmn", "SSv2-part", 5),
    Column("ssv2-otam", "SSv2-all", 1),
    Column("ssv2-otam", "SSv2-all", 5),
)
_UCF_HMDB = (
    Column("ucf101", "UCF101", 1),
    Column("ucf101", "UCF101", 5),
    Column("hmdb51", "HMDB51", 1),
    Column("hmdb51", "HMDB51", 5),
)
_ABLATION = (Column("ucf101", "UCF101", 1), Column("ssv2-otam", "SSv2-all", 1))

TABLES = {
    1: PublishedTable(
        1,
        "Comparison on 5-way 1-shot and 5-shot benchmarks of SSv2-part, and SSv2-all",
        _SSV2,
        (
            PublishedRow("TSN++", _2D, "tsnpp", "tsn", (None, None, 34.4, 43.8)),
            PublishedRow("CMN-J", _2D, "cmn_j", "tsn", (36.2, 48.8, None, None)),
            PublishedRow("FEAT", _2D, "feat", "tsn", (None, None, 45.3, 61.2)),
            PublishedRow("OTAM", _2D, "otam", "tsn", (None, None, 42.8, 52.3)),
            PublishedRow("PAL", _2D, "pal", "tsn", (None, None, 46.4, 62.6)),
            PublishedRow("TRX", _2D, "trx", "tsn", (36.0, 59.1, 42.0, 64.6)),
            PublishedRow("MASTAF-{TSN}", _2D, "mastaf", "tsn", (37.5, 50.2, 46.9, 62.4), "full"),
            PublishedRow("Baseline-{R3D}", _3D, "baseline", "r3d", (24.9, 36.1, 25.6, 39.8)),
            PublishedRow("MatchingNet-{R3D}", _3D, "matchingnet", "r3d", (34.1, 45.2, 43.2, 54.4)),
            PublishedRow("TRX-{R3D}", _3D, "trx", "r3d", (26.1, 47.0, 34.9, 58.9)),
            PublishedRow("MASTAF-{R3D}", _3D, "mastaf", "r3d", (39.9, 52.2, 50.3, 66.7), "full"),
            PublishedRow("TRX-{ViViT}", _TRANSFORMER, "trx", "vivit", (34.7, None, 42.7, None)),
            PublishedRow("MASTAF-{ViViT}", _TRANSFORMER, "mastaf", "vivit", (45.6, None, 60.7, None), "full"),
        ),
    ),
    2: PublishedTable(
        2,
        "Comparison on 5-way 1-shot and 5-shot benchmarks of UCF101, and HMDB51",
        _UCF_HMDB,
        (
            PublishedRow("FEAT", _2D, "feat", "tsn", (83.9, 94.5, 60.4, 75.2)),
            PublishedRow("PAL", _2D, "pal", "tsn", (85.3, 95.2, 60.9, 75.8)),
            PublishedRow("TRX", _2D, "trx", "tsn", (None, 96.1, None, 75.6)),
            PublishedRow("MASTAF-{TSN}", _2D, "mastaf", "tsn", (79.3, 90.3, 54.8, 67.7), "full"),
            PublishedRow("ProtoGAN", _3D, "protogan", "r3d", (57.8, 80.2, 34.7, 54.0), network="C3D"),
            PublishedRow("ARN", _3D, "arn", "r3d", (66.3, 83.1, 45.5, 60.6), network="an encoder of its own"),
            PublishedRow("Baseline-{R3D}", _3D, "baseline", "r3d", (53.4, 88.7, 40.1, 68.1)),
            PublishedRow("MatchingNet-{R3D}", _3D, "matchingnet", "r3d", (82.7, 93.5, 61.8, 75.6)),
            PublishedRow("TRX-{R3D}", _3D, "trx", "r3d", (82.5, 94.1, 57.0, 74.3)),
            PublishedRow("MASTAF-{R3D}", _3D, "mastaf", "r3d", (90.6, 97.6, 67.9, 81.2), "full"),
            PublishedRow("TRX-{ViViT}", _TRANSFORMER, "trx", "vivit", (84.8, None, 58.1, None)),
            PublishedRow("MASTAF-{ViViT}", _TRANSFORMER, "mastaf", "vivit", (91.6, None, 69.5, None), "full"),
        ),
    ),
    3: PublishedTable(
        3,
        "Comparison results with three variants of MASTAF for 5-way 1-shot video classification",
        _ABLATION,
        (
            PublishedRow("MASTAF-Neighbor", _3D, "mastaf", "r3d", (82.7, 43.2), "neighbor"),
            PublishedRow("MASTAF-Self", _3D, "mastaf", "r3d", (90.3, 49.4), "self"),
            PublishedRow("MASTAF-Cross", _3D, "mastaf", "r3d", (90.5, 49.2), "cross"),
            PublishedRow("MASTAF", _3D, "mastaf", "r3d", (90.6, 50.3), "full"),
        ),
    ),
}


def find_published(record: Mapping[str, Any]) -> Published | None:
    """What the paper prints for the head, cubes and test of a record (its fields), None where it prints nothing."""
    for table, row, column, value in _numbers():
        if not row.network and fits(record, row, column) and misfit(record) is None:
            return Published(value, table.number, row.label, row.note)
    return None


def fits(record: Mapping[str, Any], row: PublishedRow, column: Column) -> bool:
    """Whether a record is of this row and column, whatever its cubes: the same head and backbone, on random 5-way
    episodes of the test split."""
    head = (record["method"], record["backbone"]) == (row.method, row.backbone)
    test = (record["split"], record["way"], record["episodes_from"]) == ("test", 5, "random")
    same = (record["dataset"], record["shot"]) == (column.dataset, column.shot)
    return head and row.variant in (None, record["variant"]) and test and same


def _numbers() -> Iterator[tuple[PublishedTable, PublishedRow, Column, float]]:
    for table in TABLES.values():
        for row in table.rows:
            for column, value in zip(table.columns, row.values, strict=True):
                if value is not None:
                    yield table, row, column, value
