"""Nearness against a search that compares one pair after the other."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from augcond.nearness import nearest, similar_classes

# Few values, so that ties come; none of length zero alone.
features = st.integers(1, 9).flatmap(
    lambda n: st.tuples(
        arrays(np.float32, (n, 3), elements=st.sampled_from([-1.0, 0.0, 0.5, 2.0])),
        arrays(np.int64, (n,), elements=st.integers(0, 2)),
    )
)


def cosine(one, two):
    lengths = math.sqrt(float((one**2).sum())) * math.sqrt(float((two**2).sum()))
    return round(float((one * two).sum()) / lengths, 5) if lengths else 0.0


@settings(max_examples=80, deadline=None)
@given(features, st.integers(1, 5), st.booleans())
def test_the_nearest_are_those_of_a_slow_search(drawn, count, across):
    points, labels = drawn
    for place, found in enumerate(nearest(points, labels, count, across=across)):
        others = [o for o in range(len(points)) if o != place and (labels[o] != labels[place]) == across]
        ordered = sorted(others, key=lambda other: (-cosine(points[place], points[other]), other))
        assert found.tolist() == ordered[:count]


@settings(max_examples=80, deadline=None)
@given(features)
def test_the_most_similar_class_is_that_of_a_slow_search(drawn):
    means, counts = drawn
    for label, found in enumerate(similar_classes(means, counts)):
        others = [other for other in range(len(means)) if other != label and counts[other]]
        if not others or not counts[label]:
            assert found is None
        else:
            assert found == max(others, key=lambda other: (cosine(means[label], means[other]), -other))


def test_length_and_the_last_bits_choose_nothing():
    points = np.array([[1.0, 0.0], [3.0, 1.0], [3e4, 1e4], [30.0, 10.00001], [0.0, 1.0]], dtype=np.float32)
    assert nearest(points, np.zeros(5, np.int64), 3)[0].tolist() == [1, 2, 3]
    assert similar_classes(points, np.ones(5))[0] == 1
