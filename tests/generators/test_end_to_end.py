"""Every generator from photos to stored images, by every recipe that it takes, through the engine."""

import pytest

from augcond.generators import recipes_for
from augcond.pipeline import generate
from augcond.store import RunFolder, audit_run
from augcond.testing import (
    save_tiny_flux,
    save_tiny_ip_adapter,
    save_tiny_kandinsky,
    save_tiny_kandinsky_prior,
    save_tiny_redux,
    save_tiny_sd3,
    save_tiny_sd3_ip_adapter,
    save_tiny_siglip,
    save_tiny_stable_diffusion,
    save_tiny_stable_diffusion_xl,
)
from tests.toy import toy_config

PLUS = "models/ip-adapter-plus_sd15.safetensors"


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    save_tiny_stable_diffusion(root / "sd")
    save_tiny_stable_diffusion_xl(root / "xl")
    save_tiny_ip_adapter(root / "adapters", root / "sd", "plus")
    save_tiny_ip_adapter(root / "adapters", root / "xl", "base")
    save_tiny_kandinsky(root / "decoder")
    save_tiny_kandinsky_prior(root / "prior")
    save_tiny_flux(root / "flux", "schnell")
    save_tiny_redux(root / "redux")
    save_tiny_sd3(root / "sd3")
    save_tiny_sd3_ip_adapter(root / "sd3-adapter", root / "sd3")
    save_tiny_siglip(root / "siglip")
    return root


FLOW = {"scheduler": "default", "size": 16}


@pytest.mark.parametrize(
    ("name", "model", "parts", "settings"),
    [
        ("stable-diffusion", "sd", {}, {}),
        ("ip-adapter", "sd", {"adapter": {"model": "adapters", "weights": PLUS}}, {}),
        ("ip-adapter-xl", "xl", {"adapter": {"model": "adapters"}}, {}),
        ("kandinsky-2.2", "decoder", {"prior": {"model": "prior"}}, {}),
        ("flux-redux", "flux", {"redux": {"model": "redux"}}, {**FLOW, "guidance_scale": 1}),
        ("sd3-ip-adapter", "sd3", {"adapter": {"model": "sd3-adapter"}, "image_encoder": {"model": "siglip"}}, FLOW),
    ],
)
def test_photos_become_images(models, tmp_path, name, model, parts, settings):
    parts = {key: {**part, "model": str(models / part["model"])} for key, part in parts.items()}
    recipes = recipes_for(name)
    config = toy_config(
        tmp_path,
        plan={"per_class": 1},
        conditioning={"recipe": list(recipes)},
        generator={"name": name, "model": str(models / model), "steps": 2, "device": "cpu", "own": parts, **settings},
    )
    summary = generate(config)
    assert (summary.ok, summary.reasons) == (2 * len(recipes), {})
    assert not audit_run(RunFolder(config.run)).problems
