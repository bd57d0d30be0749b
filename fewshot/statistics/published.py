"""The numbers of the paper's Tables 1 to 3: Liu et al., "MASTAF", WACV 2023. All of fine-tuned backbones.

Where the paper quotes a number from elsewhere, the number is the paper's: it marks TSN++ as "Results from [3]" (OTAM's
paper), FEAT as "Results from [40]" (PAL's).
"""

from collections.abc import Iterator
from dataclasses import dataclass

NOTE = "published: fine-tuned backbone, other protocol"


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


@dataclass(frozen=True)
class PublishedTable:
    """One table of the paper."""

    number: int
    title: str
    columns: tuple[Column, ...]
    rows: tuple[PublishedRow, ...]


@dataclass(frozen=True)
class Published:
    """One number, in %, and where it stands."""

    value: float
    table: int
    row: str


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


def find_published(
    *, method: str, variant: str | None, backbone: str, dataset: str, shot: int, way: int
) -> Published | None:
    """What the paper prints for a head on this backbone and data set, None where it prints nothing."""
    if way != 5:
        return None
    for table, row, column, value in _numbers():
        same = (row.method, row.backbone, column.dataset, column.shot) == (method, backbone, dataset, shot)
        if same and row.variant in (None, variant) and not row.network:
            return Published(value, table.number, row.label)
    return None


def _numbers() -> Iterator[tuple[PublishedTable, PublishedRow, Column, float]]:
    for table in TABLES.values():
        for row in table.rows:
            for column, value in zip(table.columns, row.values, strict=True):
                if value is not None:
                    yield table, row, column, value
