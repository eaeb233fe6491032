"""Networks by name, their weights, and frozen ones that stay as they are."""

import pytest
import torch
from safetensors.torch import save_file
from timm.layers import resample_abs_pos_embed

from augcond.errors import ConfigError, TrainingError
from augcond.training.loop import make_optimizer
from augcond.training.networks import SmallCnn, build_classifier, check_batch, input_size
from tests.training.toys import SIZE, toy_settings


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


def test_position_embeddings_of_another_image_size_are_resampled(tmp_path):
    small = toy_settings(model="test_vit", image_size=32)
    origin = build_classifier(small, 3, seed=4).network
    path = tmp_path / "vit.safetensors"
    save_file(origin.state_dict(), path)
    large = small.model_copy(update={"mode": "finetune", "weights": str(path), "image_size": 64})
    network = build_classifier(large, 3, seed=0).eval()
    assert network(torch.rand(1, 3, 64, 64)).shape == (1, 3)
    resampled = resample_abs_pos_embed(origin.pos_embed, [4, 4], [2, 2], num_prefix_tokens=1)
    assert torch.allclose(network.network.pos_embed, resampled)
    assert torch.equal(network.network.blocks[0].mlp.fc1.weight, origin.blocks[0].mlp.fc1.weight)
    # What is of another shape beside them is of another network.
    save_file(origin.state_dict() | {"patch_embed.proj.weight": torch.zeros(64, 3, 8, 8)}, path)
    with pytest.raises(TrainingError, match="weights of another network"):
        build_classifier(large, 3, seed=0)


def test_what_a_network_exempts_from_decay_is_not_decayed():
    network = build_classifier(toy_settings(model="test_vit", image_size=32), 3, seed=0)
    groups = make_optimizer(network, toy_settings(optimizer="adamw", weight_decay=0.1)).param_groups
    decay = {id(parameter): group["weight_decay"] for group in groups for parameter in group["params"]}
    assert decay[id(network.network.pos_embed)] == decay[id(network.network.cls_token)] == 0
    assert decay[id(network.network.head.weight)] == 0.1
    assert build_classifier(toy_settings(), 3, seed=0).no_weight_decay() == set()


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            {"model": "resnet10t", "batch_size": 1},
            r"on 1 image of 32 x 32 pixels at once \(Expected more than 1 value.*raise training\.batch_size",
        ),
        (
            {"model": "convnext_atto", "image_size": 8, "batch_size": 8},
            r"on 8 images of 8 x 8 .*raise training\.image_size, or name another",
        ),
    ],
)
def test_a_batch_that_a_network_cannot_be_trained_on_is_refused_before_any_work(keys, message):
    with pytest.raises(ConfigError, match=message):
        check_batch(toy_settings(**{"image_size": 32} | keys), 3, keys["batch_size"])


@pytest.mark.parametrize("keys", [{"batch_size": 512}, {"model": "resnet10t", "image_size": 1024, "batch_size": 512}])
def test_batches_of_any_size_are_looked_at_by_their_shapes(keys):
    check_batch(toy_settings(**keys), 3, 512)


def test_a_network_that_has_more_than_shapes_is_tried_in_earnest(monkeypatch):
    seen = []

    def forward(self, images):
        seen.append((len(images), float(images.sum())))
        return self.forward_head(self.forward_features(images))

    monkeypatch.setattr(SmallCnn, "forward", forward)
    check_batch(toy_settings(), 3, 64)
    assert seen == [(2, 0.0)]
