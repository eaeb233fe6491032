import json

import pytest
from benchmarks.architectures import ARCHITECTURES, measured
from benchmarks.full_size import networks, parameter_count
from benchmarks.writing import RESULTS

from augcond.generators import find_family, generator_names


@pytest.mark.slow
def test_the_networks_are_those_of_stable_diffusion_2_1_unclip():
    made = networks()
    counts = {name: parameter_count(network) for name, network in made.items()}
    # Stable Diffusion 2.1's own UNet, and the two layers that embed [image embedding, noise level] of 2,048 features.
    class_embedding = 2048 * 1280 + 1280 + 1280 * 1280 + 1280
    assert counts["unet"] - class_embedding == 865_910_724
    assert counts["vae"] == 83_653_863
    assert counts["text_encoder"] == 340_387_840
    assert counts["image_encoder"] == 632_076_800
    assert all(parameter.is_meta for network in made.values() for parameter in network.parameters())


@pytest.mark.slow
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_true_architectures_are_as_recorded(name):
    recorded = json.loads((RESULTS / "architectures.json").read_text())[name]
    assert json.loads(json.dumps(measured(name))) == recorded


def test_what_families_say_of_their_size_is_what_was_computed():
    recorded = json.loads((RESULTS / "architectures.json").read_text())
    published = {"kandinsky-2.2": 2 * (1.8 + 1.2 + 0.067)}  # arXiv 2310.03502: billions of the networks that are loaded
    for name in generator_names():
        said = find_family(name).weights_gb
        if name in recorded:
            assert said == recorded[name]["gigabytes of weights"]["float16 or bfloat16"]
        else:
            assert said == (pytest.approx(published[name], abs=0.05) if name in published else None)
