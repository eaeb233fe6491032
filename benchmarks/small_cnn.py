"""A training step of the small network in the memory format that it uses, beside the usual one.

Run `python -m benchmarks.small_cnn`: it prints JSON and writes benchmarks/results/small_cnn.json. The two take turns,
so that a busy moment hits both; what counts is the ratio.
"""

from __future__ import annotations

import os
import statistics
import time

import torch
from benchmarks.writing import write_result
from torch import Tensor, nn

from augcond.training.networks import SmallCnn

BATCH = 32
ROUNDS = 60


class Contiguous(SmallCnn):
    """The same network in the usual memory format."""

    def forward_features(self, images: Tensor) -> Tensor:
        """Return feature maps, (B, 4 width, S/8, S/8), of normalised images, (B, 3, S, S)."""
        features: Tensor = self.stages(images.contiguous())
        return features


def step(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Return the seconds of one forward and backward pass."""
    started = time.perf_counter()
    network.zero_grad()
    nn.functional.cross_entropy(network(images), labels).backward()
    return time.perf_counter() - started


def main() -> None:
    """Measure and report."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    networks = {"channels-last": SmallCnn(10), "contiguous": Contiguous(10)}
    networks["contiguous"].load_state_dict(networks["channels-last"].state_dict())
    images, labels = torch.randn(BATCH, 3, 32, 32), torch.randint(10, (BATCH,))
    with torch.no_grad():
        logits = [network(images) for network in networks.values()]
    seconds: dict[str, list[float]] = {name: [] for name in networks}
    for number in range(ROUNDS + 5):
        for name, network in networks.items():
            taken = step(network, images, labels)
            if number >= 5:
                seconds[name].append(taken)
    ratios = [slow / fast for slow, fast in zip(seconds["contiguous"], seconds["channels-last"], strict=True)]
    result = {
        "batch": BATCH,
        "threads": 1,
        "rounds": ROUNDS,
        "median_milliseconds": {name: round(1000 * statistics.median(values), 1) for name, values in seconds.items()},
        "ratio": {
            "median": round(statistics.median(ratios), 2),
            "quartiles": [round(value, 2) for value in statistics.quantiles(ratios, n=4)[::2]],
        },
        "largest_difference_of_logits": float((logits[0] - logits[1]).abs().max()),
        "torch": torch.__version__,
        "load_average": round(os.getloadavg()[0], 2),
    }
    write_result("small_cnn", result)


if __name__ == "__main__":
    main()
