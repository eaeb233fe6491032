import pytest
from benchmarks.full_size import networks, parameter_count


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
