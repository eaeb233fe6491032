"""Networks by name, their weights, and frozen ones that stay as they are."""

import pytest
import torch
from safetensors.torch import save_file

from augcond.errors import ConfigError, TrainingError
from augcond.training.networks import build_classifier, input_size
from augcond.training.probing import BackboneEncoder, FrozenEncoder, LinearHead, plain_features, view_features
from tests.training.toys import SIZE, toy_images, toy_settings


def saved(tmp_path, classes=3):
    path = tmp_path / "small.safetensors"
    save_file(build_classifier(toy_settings(), classes, seed=5).state_dict(), path)
    return str(path)


def test_weights_are_drawn_by_the_seed_alone():
    first, again, other = (build_classifier(toy_settings(), 3, seed) for seed in (1, 1, 2))
    images = torch.rand(2, 3, SIZE, SIZE)
    assert torch.equal(first.eval()(images), again.eval()(images))
    assert not torch.equal(first(images), other.eval()(images))
    assert sum(p.numel() for p in first.parameters()) < 500_000


def test_timm_networks_by_name():
    config = toy_settings(model="resnet10t", image_size=32)
    network = build_classifier(config, 3, seed=0).eval()
    assert network(torch.rand(2, 3, 32, 32)).shape == (2, 3)
    assert input_size(toy_settings(model="resnet10t", image_size=None)) == 176
    with pytest.raises(ConfigError, match=r"no network 'resnet51x'; did you mean"):
        build_classifier(toy_settings(model="resnet51x"), 3, seed=0)


def test_weights_of_other_classes_keep_all_but_the_classifying_layer(tmp_path):
    path = saved(tmp_path, classes=7)
    config = toy_settings(mode="finetune", weights=path)
    network = build_classifier(config, 3, seed=0).eval()
    origin = build_classifier(toy_settings(), 7, seed=5).eval()
    images = torch.rand(2, 3, SIZE, SIZE)
    assert torch.equal(network.features(images), origin.features(images))
    assert network(images).shape == (2, 3)


def test_weights_of_another_network_and_pickles_are_refused(tmp_path):
    path = saved(tmp_path)
    with pytest.raises(TrainingError, match="weights of another network"):
        build_classifier(toy_settings(model="resnet10t", mode="finetune", weights=path), 3, seed=0)
    with pytest.raises(ConfigError, match=r"is no \.safetensors file"):
        build_classifier(toy_settings(mode="finetune", weights=str(tmp_path / "w.pth")), 3, seed=0)
    with pytest.raises(TrainingError, match="cannot be loaded"):
        build_classifier(toy_settings(mode="finetune", weights=str(tmp_path / "none.safetensors")), 3, seed=0)


def test_a_frozen_backbone_does_not_move(tmp_path):
    config = toy_settings(mode="linear-probe", weights=saved(tmp_path))
    network = build_classifier(config, 3, seed=0).train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    encoder = BackboneEncoder(network, torch.device("cpu"))
    images = toy_images(4)
    plain = plain_features(encoder, images)
    views = view_features(encoder, images, config.augment, SIZE, 3, seed=0)
    assert plain.shape == (12, 128)
    assert views.shape == (3, 12, 128)
    assert not torch.equal(views[0], views[1])
    assert not network.training
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_a_linear_head_standardises_features():
    features = torch.randn(50, 4) * 3 + 7
    head = LinearHead(features, 2, seed=0)
    assert torch.allclose(head.mean, features.mean(0))
    assert head(features).shape == (50, 2)
    assert torch.isfinite(LinearHead(torch.ones(3, 4), 2, seed=0)(torch.ones(3, 4))).all()


def test_features_of_a_set_are_computed_once():
    calls = []

    def encode(images):
        calls.append(len(images))
        return images.mean(dim=(2, 3))

    encoder = FrozenEncoder(encode, SIZE)
    first, equal = toy_images(4), toy_images(4)
    augment = toy_settings().augment
    for _ in range(3):
        encoder.plain(first)
        encoder.views(first, augment, 2, 0)
    assert calls == [12] * 3
    encoder.plain(equal)
    assert len(calls) == 4


def test_weights_from_the_hub_are_safetensors_of_the_named_revision(tmp_path, monkeypatch):
    config = toy_settings(model="resnet10t.c3_in1k", mode="finetune", weights="hub", revision="abc", image_size=32)
    origin = build_classifier(toy_settings(model="resnet10t", image_size=32), 1000, seed=3).network
    path = tmp_path / "model.safetensors"
    save_file(origin.state_dict(), path)
    asked = []

    def fetch(repository, name, revision):
        asked.append((repository, name, revision))
        return str(path)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", fetch)
    network = build_classifier(config, 3, seed=0).eval()
    assert asked == [("timm/resnet10t.c3_in1k", "model.safetensors", "abc")]
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(network.network.forward_features(images), origin.eval().forward_features(images))
    with pytest.raises(ConfigError, match="no pretrained weights of small-cnn"):
        build_classifier(toy_settings(mode="finetune", weights="hub"), 3, seed=0)


def test_networks_of_a_fixed_input_size_are_built_for_the_size_asked_for():
    network = build_classifier(toy_settings(model="vit_tiny_patch16_224", image_size=32), 3, seed=0).eval()
    assert network(torch.rand(1, 3, 32, 32)).shape == (1, 3)
