"""diffusers' schedulers by name, and the proof that their noise can be seeded per row."""

from __future__ import annotations

import copy
import difflib
import inspect
from typing import TYPE_CHECKING, Any

from augcond.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import torch
    from torch import Tensor

_SHORT_NAMES: dict[str, tuple[str, dict[str, Any]]] = {
    "ddim": ("DDIMScheduler", {}),
    "ddpm": ("DDPMScheduler", {}),
    "deis": ("DEISMultistepScheduler", {}),
    "dpmsolver++": ("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++"}),
    "dpmsolver++-sde": ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}),
    "dpmsolver++-single": ("DPMSolverSinglestepScheduler", {"algorithm_type": "dpmsolver++"}),
    "euler": ("EulerDiscreteScheduler", {}),
    "euler-ancestral": ("EulerAncestralDiscreteScheduler", {}),
    "heun": ("HeunDiscreteScheduler", {}),
    "kdpm2": ("KDPM2DiscreteScheduler", {}),
    "kdpm2-ancestral": ("KDPM2AncestralDiscreteScheduler", {}),
    "lcm": ("LCMScheduler", {}),
    "lms": ("LMSDiscreteScheduler", {}),
    "pndm": ("PNDMScheduler", {}),
    "tcd": ("TCDScheduler", {}),
    "unipc": ("UniPCMultistepScheduler", {}),
}
_KARRAS = "-karras"
_LEARNED = ("learned", "learned_range")
# Of models that were trained by flow matching, which schedulers of noise do not denoise, nor these the others'.
_FLOW_NAMES: dict[str, tuple[str, dict[str, Any]]] = {
    "flow-euler": ("FlowMatchEulerDiscreteScheduler", {}),
    "flow-heun": ("FlowMatchHeunDiscreteScheduler", {}),
}
# They denoise the same way, though diffusers lists no compatible schedulers for them (they want distilled models).
_ALSO_COMPATIBLE = frozenset({"LCMScheduler", "TCDScheduler"})


class SchedulerFactory:
    """Makes fresh schedulers of one kind, so that no state of one batch reaches the next.

    Args:
        name: `default` for the model's own, a short name, or the class name of a diffusers scheduler; with
            `-karras` appended, on the noise levels of Karras et al. (arXiv 2206.00364).
        own: the model's own scheduler; its noise schedule and prediction type are taken over.
        steps: number of denoising steps.
        timing: what `set_timesteps` is told besides, such as a shift that depends on the size (`Denoiser.timing`).

    Raises:
        ConfigError: there is no such scheduler, it cannot denoise with this model or in so many steps (what comes out
            is not finite), or it draws noise that cannot be seeded per row.
    """

    def __init__(self, name: str, own: Any, steps: int, timing: Mapping[str, Any] | None = None) -> None:
        self.name = name
        self._steps = steps
        self._timing = dict(timing or {})
        self._template = own if name == "default" else _build(name, own)
        self._check_rows_are_independent()

    def new(self, device: torch.device) -> Any:
        """Return a scheduler with its time steps on `device`."""
        # Copied rather than built from its config, which logs the keys that do not apply every time.
        scheduler = copy.deepcopy(self._template)
        unknown = self._timing.keys() - inspect.signature(scheduler.set_timesteps).parameters.keys()
        if unknown:
            raise ConfigError(
                f"generator.scheduler: {self.name!r} cannot be told this model's own time steps "
                f"({', '.join(sorted(unknown))}); choose another, such as default"
            )
        scheduler.set_timesteps(self._steps, device=device, **self._timing)
        return scheduler

    def _check_rows_are_independent(self) -> None:
        """Denoise two rows together and alone with a stand-in for the UNet; a few milliseconds."""
        import torch

        cpu = torch.device("cpu")
        # Schedulers that ignore the generators draw from the global state, which must stay as it was.
        with torch.random.fork_rng(devices=[]):
            try:
                together = _denoise_stand_in(self.new(cpu), (1, 2))
                alone = torch.cat([_denoise_stand_in(self.new(cpu), (seed,)) for seed in (1, 2)])
            except ConfigError:
                raise
            except Exception as error:  # each scheduler has its own way to refuse
                raise ConfigError(
                    f"generator.scheduler: {self.name!r} cannot denoise in {self._steps} steps with this model: {error}"
                ) from error
        if not (together.isfinite().all() and alone.isfinite().all()):
            raise ConfigError(
                f"generator.scheduler: {self.name!r} gives NaN or infinite numbers in {self._steps} steps with this "
                "model, so every image would fail: change generator.steps, or choose another, such as ddim"
            )
        if not torch.allclose(together, alone, rtol=1e-4, atol=1e-5):
            raise ConfigError(
                f"generator.scheduler: {self.name!r} draws noise that cannot be seeded per image, so images would "
                f"depend on their batch; choose another, such as {', '.join(_SHORT_NAMES)}"
            )


def step_arguments(scheduler: Any, generators: Sequence[torch.Generator]) -> dict[str, Any]:
    """Return what `scheduler.step` needs beyond its tensors: one generator per row where it draws noise."""
    if "generator" in inspect.signature(scheduler.step).parameters:
        return {"generator": list(generators)}
    return {}


def noise_scale(scheduler: Any) -> Any:
    """Return the standard deviation of the noise that denoising starts from."""
    return getattr(scheduler, "init_noise_sigma", 1.0)


def network_input(scheduler: Any, latents: Tensor, timestep: Tensor) -> Tensor:
    """Return latents as the network is shown them; those of flow matching are shown as they are."""
    if not hasattr(scheduler, "scale_model_input"):
        return latents
    scaled: Tensor = scheduler.scale_model_input(latents, timestep)
    return scaled


def noised(scheduler: Any, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
    """Return the latents of images, (B, ...), as noisy as they are at `timesteps` (B,)."""
    if hasattr(scheduler, "add_noise"):
        found: Tensor = scheduler.add_noise(latents, noise, timesteps)
    else:  # of flow matching, where noise takes the place of the image
        found = scheduler.scale_noise(latents, timesteps, noise)
    return found


def learns_variance(scheduler: Any) -> bool:
    """Return whether `scheduler.step` wants the variance that the UNet predicts, after the noise, as channels."""
    import diffusers

    # The others keep the key of a config that they were made from, and do nothing with it.
    return isinstance(scheduler, diffusers.DDPMScheduler) and scheduler.config.variance_type in _LEARNED


def _denoise_stand_in(scheduler: Any, seeds: tuple[int, ...]) -> Tensor:
    import torch

    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    noise = torch.cat([torch.randn(1, 1, 2, 2, generator=generator) for generator in generators])
    latents: Tensor = noise * noise_scale(scheduler)
    arguments = step_arguments(scheduler, generators)
    for timestep in scheduler.timesteps:
        prediction = torch.tanh(network_input(scheduler, latents, timestep))
        if learns_variance(scheduler):
            prediction = torch.cat([prediction, prediction], dim=1)
        latents = scheduler.step(prediction, timestep, latents, **arguments, return_dict=False)[0]
    return latents


def _build(name: str, own: Any) -> Any:
    import diffusers

    kind, options = _resolve(name, flow=_is_flow(type(own)))
    known = inspect.signature(kind.__init__).parameters
    if "clip_sample" in known and "clip_sample" not in own.config:
        # Some schedulers clip to [-1, 1] unless told not to, which is meant for pixels and ruins latents.
        options = {**options, "clip_sample": False}
    if "variance_type" in known and own.config.get("variance_type") in _LEARNED and kind is not diffusers.DDPMScheduler:
        # The other schedulers that know a learned variance take it to follow three channels, as of pixels.
        options = {**options, "variance_type": None}
    if name.endswith(_KARRAS):
        if "use_karras_sigmas" not in known:
            raise ConfigError(f"generator.scheduler: {kind.__name__} has no {_KARRAS} variant")
        options = {**options, "use_karras_sigmas": True}
    try:
        scheduler = kind.from_config(own.config, **options)
    except Exception as error:  # a missing package, or a noise schedule that it does not know
        raise ConfigError(f"generator.scheduler: {name!r} cannot be used with this model: {error}") from error
    prediction = own.config.get("prediction_type", "epsilon")
    if scheduler.config.get("prediction_type", "epsilon") != prediction:
        raise ConfigError(f"generator.scheduler: {name!r} does not know this model's prediction type, {prediction}")
    return scheduler


def _is_flow(kind: type[Any]) -> bool:
    return kind.__name__.startswith("FlowMatch")


def _resolve(name: str, *, flow: bool) -> tuple[type[Any], dict[str, Any]]:
    import diffusers

    base = name.removesuffix(_KARRAS)
    class_name, options = {**_SHORT_NAMES, **_FLOW_NAMES}.get(base, (base, {}))
    kind = getattr(diffusers, class_name, None)
    if not (isinstance(kind, type) and issubclass(kind, diffusers.SchedulerMixin)):
        known = ("default", *_SHORT_NAMES)
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ConfigError(
            f"generator.scheduler: no scheduler {name!r}; {hint}known: {', '.join(known)}, most of them with "
            f"{_KARRAS} too, and the class names of diffusers' schedulers"
        )
    if flow != _is_flow(kind):
        taken = ", ".join(("default", *(_FLOW_NAMES if flow else _SHORT_NAMES)))
        how = "was" if flow else "was not"
        raise ConfigError(f"generator.scheduler: this model {how} trained by flow matching, so it takes {taken}")
    if flow:
        return kind, options
    compatible = "DDIMScheduler" in getattr(kind, "_compatibles", ()) or class_name in _ALSO_COMPATIBLE
    if not compatible or "Inverse" in class_name:
        raise ConfigError(f"generator.scheduler: {class_name} does not denoise models of this kind")
    return kind, options
