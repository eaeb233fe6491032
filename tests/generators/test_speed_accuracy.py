"""The benchmark of fast sampling says how often the UNet is called, and which ways are on the frontier."""

import pytest
from benchmarks.speed_accuracy import DEFAULT, POINTS, Line, chosen, frontier

SEEDS = [11, 2**62 + 5, 7, 11_000]


@pytest.mark.parametrize("name", ["5-interval", "12-cache-3"])
def test_calls_are_those_that_the_unet_gets(tiny_generator, conditioning, name):
    point = next(point for point in POINTS if point.name == name)
    values = {key.removeprefix("generator."): value for key, value in point.overrides.items()}
    generator = tiny_generator(**values, scheduler="ddim")
    network, calls = generator._denoiser.network, {}
    handles = [
        layer.register_forward_pre_hook(lambda layer, args: calls.update({layer: calls.get(layer, 0) + len(args[0])}))
        for layer in (network.conv_in, network.mid_block)
    ]
    generator.generate(conditioning, SEEDS)
    for handle in handles:
        handle.remove()
    whole, outer = point.calls
    assert calls == {network.mid_block: 4 * whole, network.conv_in: 4 * (whole + outer)}


def test_the_frontier_has_what_nothing_beats():
    def line(number, seconds, accuracy):
        return Line(POINTS[number], seconds, accuracy, {}, None, {})

    found = [line(0, 4.0, 0.7), line(1, 2.0, 0.7), line(2, 1.0, 0.6), line(3, 3.0, 0.65), line(4, None, 0.9)]
    assert frontier(found) == [POINTS[2], POINTS[1]]
    assert (len(POINTS), len({point.name for point in POINTS}), DEFAULT.calls) == (12, 12, (40, 0))


def test_the_default_is_the_fastest_of_those_as_good_as_the_best_by_the_validation_images():
    def line(name, seconds, *validation):
        point = next(point for point in POINTS if point.name == name)
        return Line(point, seconds, 0.0, dict(enumerate(validation)), None, {})

    default, dear = line("20", 1.0, 0.9, 0.9, 0.9), line("8", 0.1, 0.9, 0.9, 0.9)
    slow = line("12-cache-2", 0.41, 0.9, 0.9, 0.9)
    best, worse = line("8-interval", 0.3, 0.7, 0.8, 0.8), line("5-interval", 0.1, 0.6, 0.7, 0.7)
    as_good = line("5", 0.2, 0.8, 0.7, 0.78)
    assert chosen([default, dear, slow, best, worse, as_good]).name == "5"
    assert chosen([default, dear, slow, best, worse]).name == "8-interval"
    assert chosen([default, dear, slow]) is None
    assert chosen([best, as_good]) is None
