"""Places of tokens: any grid, any tokens in front, both orders are found; anything else is refused."""

import itertools

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from mastaf.extract.backbones.hub.layout import TokenLayout, find_layout
from mastaf.extract.backbones.hub.positions import resize_table
from mastaf.extract.errors import ExtractError

GRIDS = st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(1, 4))
PATCHES = st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 3))


def embedding(grid, patch, prefix, order, scramble=None):
    """A patch embedding, tubelet by tubelet: each token is the mean of its own pixels in four random directions."""
    weights = torch.randn(3, 4, generator=torch.Generator().manual_seed(1))

    def embed(clips):
        ranges = {axis: range(side) for axis, side in zip("thw", grid, strict=True)}
        tokens = [torch.zeros(len(clips), 4) + 7 for _ in range(prefix)]
        for places in itertools.product(*(ranges[axis] for axis in order)):
            at = dict(zip(order, places, strict=True))
            cut = [slice(at[axis] * step, (at[axis] + 1) * step) for axis, step in zip("thw", patch, strict=True)]
            tokens.append(clips[:, :, cut[0], cut[1], cut[2]].mean(dim=(2, 3, 4)) @ weights)
        stacked = torch.stack(tokens, dim=1)  # [b, n, c]
        return stacked if scramble is None else stacked[:, scramble]

    return embed


@given(GRIDS, PATCHES, st.integers(0, 5), st.sampled_from(["thw", "hwt"]))
@settings(max_examples=60, deadline=None)
def test_every_layout_is_found_and_undone(grid, patch, prefix, order):
    layout = find_layout(embedding(grid, patch, prefix, order), grid=grid, patch=patch, what="a model")
    assert (layout.prefix, layout.grid) == (prefix, grid)
    t, h, w = grid
    # Numbers that tell their place, laid out as tokens one by one.
    cube = torch.arange(t * h * w * 2, dtype=torch.float32).view(1, 2, t, h, w)
    ranges = {"t": range(t), "h": range(h), "w": range(w)}
    tokens = [torch.full((2,), -1.0)] * prefix
    for places in itertools.product(*(ranges[axis] for axis in order)):
        at = dict(zip(order, places, strict=True))
        tokens.append(cube[0, :, at["t"], at["h"], at["w"]])
    stacked = torch.stack(tokens)[None]  # [1, n, c]
    assert torch.equal(layout.to_cube(stacked, grid), cube)
    assert torch.equal(layout.to_tokens(cube), stacked[:, prefix:])


@given(GRIDS, st.randoms())
@settings(max_examples=40, deadline=None)
def test_a_wrong_order_is_refused(grid, random):
    """Any shuffle that moves one of the places that are looked at."""
    count = grid[0] * grid[1] * grid[2]
    shuffle = list(range(count))
    random.shuffle(shuffle)
    assume(shuffle.index(0) != 0)
    embed = embedding(grid, (1, 1, 1), 0, "thw", scramble=shuffle)
    with pytest.raises(ExtractError, match="must have one token for each of"):
        find_layout(embed, grid=grid, patch=(1, 1, 1), what="a model")


def test_mixed_and_missing_tokens_are_refused():
    plain = embedding((2, 2, 2), (1, 2, 2), 0, "thw")
    with pytest.raises(ExtractError, match="must have one token for each"):
        find_layout(lambda x: plain(x) + plain(x).sum(1, keepdim=True), grid=(2, 2, 2), patch=(1, 2, 2), what="m")
    with pytest.raises(ExtractError, match="must have one token for each"):
        find_layout(lambda x: 0 * plain(x), grid=(2, 2, 2), patch=(1, 2, 2), what="m")
    with pytest.raises(ExtractError, match="8 tokens of a clip by its configuration, but made 5"):
        find_layout(lambda x: plain(x)[:, :5], grid=(2, 2, 2), patch=(1, 2, 2), what="m")


@pytest.mark.parametrize(
    ("grid", "count", "expected"),
    [
        ((2, 8, 8), 2 * 64 + 1, (2, 8, 8)),
        ((2, 8, 8), 2 * 16 + 1, (2, 4, 4)),
        ((1, 7, 7), 16 + 1, (1, 4, 4)),
        ((1, 8, 8), 1 + 1, (1, 1, 1)),
    ],
)
def test_later_stages_may_halve_height_and_width(grid, count, expected):
    assert TokenLayout(prefix=1, grid=grid, order="thw").coarser(count, "stage 3") == expected


@pytest.mark.parametrize("count", [0, 3, 40, 66])
def test_any_other_number_of_tokens_is_refused(count):
    with pytest.raises(ExtractError, match=f"stage 3 must give 1 \\+ 1 x 8 x 8 tokens.*gave {count}"):
        TokenLayout(prefix=1, grid=(1, 8, 8), order="thw").coarser(count, "stage 3")


@given(st.integers(1, 6), st.integers(1, 6), st.integers(1, 3), st.integers(0, 2))
@settings(max_examples=40, deadline=None)
def test_positions_over_time_are_interpolated_between_centres(old, new, side, prefix):
    """Against the formula, one number at a time: new step j lies at (j + 1/2) * old / new - 1/2 of the old ones."""
    table = torch.randn(1, prefix + old * side * side, 3, dtype=torch.float64)
    found = resize_table(table, prefix=prefix, old=(old, side, side), new=(new, side, side))
    assert torch.equal(found[:, :prefix], table[:, :prefix])
    for step in range(new):
        at = min(max((step + 0.5) * old / new - 0.5, 0.0), old - 1.0)
        low = int(at)
        high, share = min(low + 1, old - 1), at - low
        for place in range(side * side):
            one, other = (table[0, prefix + k * side * side + place] for k in (low, high))
            expected = (1 - share) * one + share * other
            torch.testing.assert_close(found[0, prefix + step * side * side + place], expected)


def test_positions_over_space_are_resized_for_every_step_alike():
    plane = torch.randn(1, 16, 5)
    table = torch.cat([plane, 2 * plane], dim=1)  # [1, t * 4 * 4, c]
    found = resize_table(table, prefix=0, old=(2, 4, 4), new=(2, 6, 6)).unflatten(1, (2, 36))
    torch.testing.assert_close(found[:, 1], 2 * found[:, 0])
    assert found[:, 0].std() > 0
