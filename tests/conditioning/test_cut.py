import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from augcond.conditioning import cut
from augcond.conditioning.streams import BOX, numpy_stream

shares = st.floats(0, 1)
places = st.floats(0, 1, exclude_max=True)


def slow_box(lam, centre, height, width):
    """Every pixel in turn: is it in the unclipped box? Returns the set of those that are."""
    box_height, box_width = round(math.sqrt(1 - lam) * height), round(math.sqrt(1 - lam) * width)
    top = math.floor(centre[0] * height) - box_height // 2
    left = math.floor(centre[1] * width) - box_width // 2
    return {
        (row, column)
        for row in range(height)
        for column in range(width)
        if top <= row < top + box_height and left <= column < left + box_width
    }


class TestCutmix:
    @given(shares, places, places, st.integers(1, 20), st.integers(1, 20))
    def test_replaces_the_box_and_nothing_else_and_counts_exactly(self, lam, vertical, horizontal, height, width):
        box = cut.cutmix_box(lam, (vertical, horizontal), height, width)
        first = torch.zeros(3, height, width)
        second = torch.ones(3, height, width)
        mixed, share = cut.cutmix(first, second, box)
        expected = slow_box(lam, (vertical, horizontal), height, width)
        for row in range(height):
            for column in range(width):
                assert mixed[:, row, column].tolist() == [float((row, column) in expected)] * 3
        assert share == 1 - len(expected) / (height * width)
        assert box.area == len(expected)
        assert first.sum() == 0

    @given(places, places)
    def test_lambda_one_keeps_the_first(self, vertical, horizontal):
        box = cut.cutmix_box(1.0, (vertical, horizontal), 9, 7)
        mixed, share = cut.cutmix(torch.zeros(3, 9, 7), torch.ones(3, 9, 7), box)
        assert share == 1.0
        assert mixed.sum() == 0

    def test_lambda_zero_in_the_middle_takes_all_of_the_second(self):
        box = cut.cutmix_box(0.0, (0.5, 0.5), 8, 8)
        mixed, share = cut.cutmix(torch.zeros(3, 8, 8), torch.ones(3, 8, 8), box)
        assert share == 0.0
        assert mixed.all()

    @given(shares)
    def test_an_unclipped_box_has_the_area_share(self, lam):
        size = 224
        box = cut.cutmix_box(lam, (0.5, 0.5), size, size)
        assert abs(box.area / size**2 - (1 - lam)) < 2 / size

    def test_mean_share_over_centres_is_that_of_the_clipped_box(self):
        # An edge e around a uniform centre keeps e - e^2 / 4 within the border, on average.
        for lam in (0.2, 0.5, 0.9):
            edge = math.sqrt(1 - lam)
            centres = [numpy_stream(seed, BOX).random(2) for seed in range(3000)]
            areas = [cut.cutmix_box(lam, tuple(centre), 100, 100).area / 1e4 for centre in centres]
            assert np.mean(areas) == pytest.approx((edge - edge**2 / 4) ** 2, abs=0.012)


class TestRun:
    @given(shares, places, st.integers(1, 64))
    def test_changes_exactly_the_rounded_share_of_features_in_one_wrapping_run(self, lam, start, size):
        first, second = torch.arange(size).float(), -1 - torch.arange(size).float()
        mixed, share = cut.embed_cutmix(first, second, cut.run_mask(lam, start, size))
        count = round((1 - lam) * size)
        changed = {feature for feature in range(size) if mixed[feature] != first[feature]}
        begin = math.floor(start * size)
        assert changed == {(begin + step) % size for step in range(count)}
        assert all(mixed[feature] == second[feature] for feature in changed)
        assert len(changed) == count
        assert share == 1 - count / size

    def test_wraps(self):
        assert cut.run_mask(0.5, 0.8, 10).tolist() == [True] * 3 + [False] * 5 + [True] * 2

    @given(places, st.integers(1, 64))
    def test_ends(self, start, size):
        assert not cut.run_mask(1.0, start, size).any()
        assert cut.run_mask(0.0, start, size).all()


class TestGrid:
    def test_edges(self):
        counts = (1, 2, 3, 4, 5, 9, 10, 16, 17, 50, 256, 257, 728, 729, 730)
        edges = {tokens: cut.grid_edge(tokens) for tokens in counts}
        expected = {4: 2, 5: 2, 9: 3, 10: 3, 16: 4, 17: 4, 50: 7, 256: 16, 257: 16, 729: 27, 730: 27}
        assert edges == dict.fromkeys(counts) | expected
        # Whether there is a class token shows in the number alone.
        assert not {edge**2 for edge in range(2, 200)} & {1 + edge**2 for edge in range(2, 200)}

    @given(shares, places, places, st.sampled_from([2, 3, 7, 27]), st.integers(0, 1))
    def test_a_box_on_the_grid_and_the_class_token_with_the_larger_share(self, lam, vertical, horizontal, edge, first):
        mask = cut.grid_mask(lam, (vertical, horizontal), first + edge * edge)
        expected = slow_box(lam, (vertical, horizontal), edge, edge)
        grid = {(i // edge, i % edge) for i in range(edge * edge) if mask[first + i]}
        assert len(mask) == first + edge * edge
        assert grid == expected
        assert mask[:first].tolist() == [len(expected) > edge * edge / 2] * first

    def test_what_is_no_grid_is_refused(self):
        with pytest.raises(ValueError, match="12 tokens are no grid"):
            cut.grid_mask(0.5, (0.5, 0.5), 12)

    @pytest.mark.parametrize("tokens", [9, 10])
    def test_tokens_move_whole(self, tokens):
        first, second = torch.zeros(tokens, 4), torch.ones(tokens, 4)
        mask = cut.grid_mask(0.5, (0.5, 0.5), tokens)
        mixed, share = cut.embed_cutmix(first, second, mask)
        assert torch.equal(mixed, mask.float()[:, None].expand(tokens, 4))
        assert share == 1 - int(mask.sum()) / tokens

    def test_a_mask_of_another_length_is_refused(self):
        with pytest.raises(ValueError, match="10 features or tokens"):
            cut.embed_cutmix(torch.zeros(10, 4), torch.ones(10, 4), torch.ones(4, dtype=torch.bool))
