"""Episodes as a head sees them that needs relation maps alone."""

from dataclasses import dataclass

from torch import Tensor

from .episodes.episode import Episode
from .relation import RelationMaps


@dataclass(frozen=True, eq=False)
class RelatedEpisode:
    """`b` episodes by their relation maps; a class is the mean cube of its shots.

    classes: [b, way, c, L]; queries: [b, q, c, L]; labels: int64 [b, q]; class_ids: int64 [b, way], both as in
    `Episode`; cube_shape: (c, t, h, w). Cubes are there for losses; scores follow from the maps, and may find None.
    """

    maps: RelationMaps
    classes: Tensor | None
    queries: Tensor | None
    labels: Tensor
    class_ids: Tensor
    cube_shape: tuple[int, int, int, int]


def relate(episode: Episode) -> RelatedEpisode:
    """The relation maps of episodes whose cubes are at hand."""
    means = episode.support[:, :, 0] if episode.shot == 1 else episode.support.mean(2)  # [b, way, c, t, h, w]
    classes, queries = means.flatten(3), episode.query.flatten(3)  # [b, way, c, L], [b, q, c, L]
    maps = RelationMaps(classes, queries)
    return RelatedEpisode(maps, classes, queries, episode.labels, episode.class_ids, episode.cube_shape)
