import pytest
import torch

from augcond.generators.denoising import Guidance, find_errors, initial_latents, to_uint8


@pytest.mark.parametrize(
    ("interval", "guided"),
    [
        ((0.0, 1.0), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]),
        ((0.0, 0.5), [0, 1, 2, 3, 4]),
        ((0.5, 1.0), [5, 6, 7, 8, 9]),
        ((0.2, 0.34), [2]),
        ((0.3, 0.3), []),
    ],
)
def test_the_interval_is_a_share_of_the_steps(interval, guided):
    guidance = Guidance(2.0, interval)
    assert [step for step in range(10) if guidance.applies(step, 10)] == guided
    assert not any(Guidance(1.0, interval).applies(step, 10) for step in range(10))


def test_initial_latents_are_drawn_row_by_row():
    def generators(*seeds):
        return [torch.Generator().manual_seed(seed) for seed in seeds]

    latents = initial_latents((4, 3, 5), generators(1, 2, 1))
    assert latents.shape == (3, 4, 3, 5)
    assert torch.equal(latents[0], latents[2])
    assert torch.equal(latents[[1]], initial_latents((4, 3, 5), generators(2)))


def test_to_uint8_rounds_and_clips():
    row = torch.tensor([-1.5, -1.0, 0.0, 0.004, 1.0, 7.0, float("nan"), float("inf")])
    image = to_uint8(row.expand(3, 8)[None, :, None, :])
    assert image.shape == (1, 1, 8, 3)
    assert image[0, 0, :, 1].tolist() == [0, 0, 128, 128, 255, 255, 0, 0]


def test_find_errors():
    latents, images = torch.zeros(5, 4, 2, 2), torch.rand(5, 3, 4, 4)
    latents[0, 1, 0, 0] = float("inf")
    images[1, 0, 3, 3] = float("nan")
    images[2] = torch.tensor([0.1, -0.5, 0.9])[:, None, None]  # a colour is constant though its channels differ
    images[3] = 0.2
    images[3, 2, 1, 1] = 0.3
    assert find_errors(latents, images) == ["non-finite latents", "non-finite image", "constant image", None, None]
