"""Linear probes: features that are computed once, of an encoder that does not move."""

from dataclasses import replace

import torch
from PIL import Image
from safetensors.torch import save_file

from augcond.config.training import AugmentConfig
from augcond.training.batches import BatchSampler, BatchSettings, EncodedInputs, ImageInputs
from augcond.training.devices import find_rank
from augcond.training.networks import build_classifier
from augcond.training.pixels import DecodedPixels
from augcond.training.probes import BackboneEncoder, FrozenEncoder, LinearHead, Views, plain_features, view_features
from tests.toy import Counted
from tests.training.toys import SIZE, toy_images, toy_settings


def saved(tmp_path, classes=3):
    path = tmp_path / "small.safetensors"
    save_file(build_classifier(toy_settings(), classes, seed=5).state_dict(), path)
    return str(path)


def test_a_frozen_backbone_does_not_move(tmp_path):
    config = toy_settings(mode="linear-probe", weights=saved(tmp_path))
    network = build_classifier(config, 3, seed=0).train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    encoder = BackboneEncoder(network, torch.device("cpu"))
    images = toy_images(4)
    plain = plain_features(encoder, images)
    views = view_features(encoder, images, Views(config.augment, SIZE, 3, seed=0))
    assert plain.shape == (12, 128)
    assert views.shape == (3, 12, 128)
    assert not torch.equal(views[0], views[1])
    pixels = DecodedPixels(12, lambda place: Image.new("RGB", (3 * SIZE, SIZE), (9 * place, 0, 0)), SIZE)
    photos = replace(images, pixels=pixels)
    of_photos = view_features(encoder, photos, Views(AugmentConfig(crop="photo"), SIZE, 2, seed=0))
    assert of_photos.shape == (2, 12, 128)
    # Of plain colours, any crop is what the whole is.
    torch.testing.assert_close(of_photos[0], plain_features(encoder, photos), rtol=0, atol=1e-4)
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


def test_a_linear_head_may_take_features_as_they_are():
    features = torch.randn(50, 4) * 3 + 7
    head = LinearHead(features, 2, seed=0, standardise=False)
    assert torch.equal(head(features), head.linear(features))


def test_fresh_views_are_encoded_anew_for_every_batch():
    config = toy_settings(steps=3, batch_size=4)
    real, synthetic = toy_images(2), toy_images(2, seed=1, name="synthetic")
    sampler = BatchSampler(6, 6, BatchSettings(4, 0.5, "exact"), seed=0, steps=3)

    def encode(images):
        return images.mean(dim=(2, 3))

    def inputs():
        images = ImageInputs((real, synthetic), sampler, config.augment, SIZE, 3, seed=0)
        return EncodedInputs(images, encode)

    rank = find_rank(config)
    first, labels = inputs()(0, rank)
    assert first.shape == (4, 3)
    # What a step draws depends on seed and step alone.
    again = inputs()
    assert torch.equal(again(0, rank)[0], first)
    assert not torch.equal(again(1, rank)[0], first)
    assert labels.tolist() == [*real.labels[sampler(0).real], *synthetic.labels[sampler(0).synthetic]]


def test_deviations_that_are_small_by_chance_blow_nothing_up():
    features = torch.tensor([[0.0, 1.0, 2.0, 5.0, 7.0], [2.0, 3.0, 6.0, 5.0001, 7.0]])
    head = LinearHead(features, 2, seed=0)
    # The deviations are 1, 1, 2, 0.00005 and 0; those of features that do not vary at all do not count.
    assert torch.allclose(head.std, torch.tensor([1.0, 1.0, 2.0, 1.0, 1.0]))


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


def test_features_are_told_of_as_they_are_computed():
    """Where they take long: before that, nothing said why no step was done yet."""
    told = Counted()
    images = toy_images(40)
    encoder = FrozenEncoder(lambda batch: batch.flatten(1)[:, :4], SIZE, told)
    encoder.plain(images)
    assert (told.total, told.done) == (120, 120)
    encoder.views(images, toy_settings().augment, 2, seed=0)
    assert (told.total, told.done) == (240, 240)
    encoder.plain(images.take(range(9)))
    assert told.total == 240
