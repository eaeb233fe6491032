import math

import pytest
import torch

from augcond.evaluation.fidelity import class_fidelity, real_fidelity


def at(*degrees):
    """Return points on the unit circle, twice as far out: lengths do not count."""
    return torch.tensor([[2 * math.cos(math.radians(a)), 2 * math.sin(math.radians(a))] for a in degrees])


def chord(degrees):
    return 2 * math.sin(math.radians(degrees) / 2)


REAL, REAL_LABELS = at(0, 0, 90, 90), torch.tensor([3, 3, 8, 8])


def test_a_sample_near_another_classs_mean_is_a_semantic_error():
    found = class_fidelity(at(10, 80), torch.tensor([3, 3]), REAL, REAL_LABELS)

    assert found.nearest.tolist() == [3, 8]
    assert found.margin.tolist() == pytest.approx([chord(10) - chord(80), chord(80) - chord(10)])


def test_the_shift_is_the_distance_to_the_nearest_real_image_of_its_own_class():
    real, labels = at(0, 30, 90), torch.tensor([0, 0, 1])
    found = class_fidelity(at(40, 50), torch.tensor([0, 1]), real, labels)

    assert found.shift.tolist() == pytest.approx([chord(10), chord(40)])


def test_a_class_without_a_real_image_is_named():
    with pytest.raises(ValueError, match="class 5 has samples but no real image"):
        class_fidelity(at(0), torch.tensor([5]), REAL, REAL_LABELS)


def test_a_single_class_has_no_semantic_error():
    found = class_fidelity(at(0, 170), torch.tensor([3, 3]), REAL[:2], REAL_LABELS[:2])
    assert found.margin.isnan().all() and found.nearest.tolist() == [3, 3]


def test_real_images_are_left_out_of_their_own_mean_and_neighbours():
    real, labels = at(0, 60, 90, 90), torch.tensor([0, 0, 1, 1])
    found = real_fidelity(real, labels)

    # Without itself, the image at 60 degrees has its class's mean at 0, and the other class's at 90.
    assert found.nearest.tolist() == [0, 1, 1, 1]
    assert found.margin[1].item() == pytest.approx(chord(60) - chord(30))
    assert found.shift.tolist() == pytest.approx([chord(60), chord(60), 0, 0])


def test_a_class_of_one_image_cannot_be_judged():
    found = real_fidelity(at(0, 90, 90), torch.tensor([0, 1, 1]))
    assert found.margin[0].isnan() and found.shift[0].isnan() and found.nearest.tolist() == [0, 1, 1]
