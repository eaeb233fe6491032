from functools import partial

import pytest
import torch
from PIL import Image

from augcond.errors import ConfigError
from augcond.evaluation.features import extract_features, load_extractor, network_features
from augcond.testing import FakeGenerator
from augcond.training.probes import generator_features


def images(count):
    return [Image.new("RGB", (20 + i, 24), (10 * i, 50, 200 - i)) for i in range(count)]


def test_the_generators_own_encoder_is_an_extractor():
    generator = FakeGenerator()
    features = extract_features(iter(images(5)), partial(generator_features, generator), batch_size=2)

    views = torch.stack([generator.view(image) for image in images(5)])
    assert torch.equal(features, generator.encode_images(views))


def test_tokens_of_one_image_are_averaged():
    generator = FakeGenerator(embedding_shape=(3, 4))
    features = extract_features(images(2), partial(generator_features, generator))

    views = torch.stack([generator.view(image) for image in images(2)])
    assert torch.allclose(features, generator.encode_images(views).mean(1))


def test_a_network_is_an_extractor_in_evaluation_mode():
    from torchvision.transforms.functional import to_tensor

    network = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Dropout(0.5))
    same_size = [image.resize((8, 8)) for image in images(3)]
    features = extract_features(same_size, network_features(network, to_tensor))

    assert not network.training and not features.requires_grad
    assert torch.allclose(features[:, 0], torch.tensor([0.0, 10, 20]) / 255)


def test_no_images_have_no_features():
    assert extract_features([], partial(generator_features, FakeGenerator())).shape == (0, 0)


def test_the_generator_is_loaded_only_for_its_own_features():
    def never():
        raise AssertionError("loaded")

    with pytest.raises(ConfigError, match="timm has no such model"):
        load_extractor("timm:no_such_model", never)
    with pytest.raises(ConfigError, match="no such classifier"):
        load_extractor("torchvision:no_such_model", never)
    assert load_extractor("generator", FakeGenerator)(images(1)).shape == (1, 12)


@pytest.mark.parametrize("name", ["clip", "timm", "timm:", "hub:x"])
def test_an_unknown_extractor_is_refused_with_what_is_allowed(name):
    with pytest.raises(ConfigError, match=r"expected one of generator, timm:NAME, torchvision:NAME"):
        load_extractor(name, FakeGenerator)


@pytest.mark.parametrize("name", ["timm:resnet10t", "torchvision:resnet18"])
def test_named_networks_lose_their_heads(name, monkeypatch):
    import timm
    from torchvision import models

    # Their weights would need a network: the same architectures with random weights show the rest.
    create, get = timm.create_model, models.get_model
    monkeypatch.setattr(timm, "create_model", lambda model, pretrained, **kwargs: create(model, **kwargs))
    monkeypatch.setattr(models, "get_model", lambda model, weights: get(model))

    features = load_extractor(name, FakeGenerator)(images(2))
    assert features.shape == (2, 512) and features.dtype == torch.float32
