"""Prompts to embeddings, each prompt encoded once and alone."""

from __future__ import annotations

import logging
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from augcond.generators.devices import execution_device

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

_logger = logging.getLogger(__name__)

# Plan rows come class by class, so prompts repeat at short distance: 256 MiB hold some 800 float32 embeddings of
# 77 x 1024, on the CPU, where memory is cheap and the copy to the device is small beside one UNet call.
_CACHE_BYTES = 256 * 2**20


class PromptEncoder:
    """Encodes prompts with a CLIP or T5 text model, as diffusers' pipelines do.

    Each prompt is encoded in a batch of its own, so that what is cached never changes what is computed together.

    Args:
        tokenizer: a CLIPTokenizer or T5TokenizerFast.
        text_encoder: a CLIPTextModel or T5EncoderModel.
        read: picks the embedding (1, ...) out of what the text model returns; where None, its last hidden states.
        length: L, how many tokens a prompt is padded or cut to; None: as many as the tokenizer says.
        cache_bytes: how much memory the embeddings that were used last may take.
    """

    def __init__(
        self,
        tokenizer: Any,
        text_encoder: Any,
        read: Callable[[Any], Tensor] | None = None,
        length: int | None = None,
        cache_bytes: int = _CACHE_BYTES,
    ) -> None:
        self._tokenizer = tokenizer
        self._text_encoder = text_encoder
        self._read = read
        self._length: int = length or tokenizer.model_max_length
        self._cache: OrderedDict[str, Tensor] = OrderedDict()
        self._cache_bytes = cache_bytes

    def encode(self, prompts: Sequence[str], *, cached: bool = True) -> Tensor:
        """Return prompt embeddings (B, L, C) in the text model's dtype, on its device.

        Args:
            prompts: B of them.
            cached: False leaves the cache alone: for a text model that is upcast for a while.
        """
        import torch

        find = self._cached if cached else self.encode_uncached
        embeddings = {prompt: find(prompt) for prompt in dict.fromkeys(prompts)}
        return torch.stack([embeddings[prompt] for prompt in prompts]).to(execution_device(self._text_encoder))

    def text(self, prompt: str) -> str:
        """Return what the tokenizer reads of a prompt."""
        return prompt

    def encode_uncached(self, prompt: str) -> Tensor:
        """Return the embedding of one prompt, (L, C), leaving the cache alone."""
        tokens = self._tokenizer(
            prompt,
            padding="max_length",
            max_length=self._length,
            truncation=True,
            return_tensors="pt",
        )
        mask = None
        if getattr(self._text_encoder.config, "use_attention_mask", False):
            mask = tokens.attention_mask.to(execution_device(self._text_encoder))
        codes = tokens.input_ids.to(execution_device(self._text_encoder))
        if self._read is None:
            hidden: Tensor = self._text_encoder(codes, attention_mask=mask, return_dict=False)[0]
            return hidden[0]
        return self._read(self._text_encoder(codes, attention_mask=mask, output_hidden_states=True))[0]

    def _cached(self, prompt: str) -> Tensor:
        embedding = self._cache.get(prompt)
        if embedding is None:
            self._warn_if_truncated(prompt)
            embedding = self._cache[prompt] = self.encode_uncached(prompt).cpu()
            size = embedding.numel() * embedding.element_size()
            while len(self._cache) > 1 and len(self._cache) * size > self._cache_bytes:
                self._cache.popitem(last=False)
        self._cache.move_to_end(prompt)
        return embedding

    def _warn_if_truncated(self, prompt: str) -> None:
        length = len(self._tokenizer(self.text(prompt), verbose=False).input_ids)
        if length > self._length:
            _logger.warning(
                "prompt %r has %d tokens; what follows the first %d is ignored", prompt, length, self._length
            )
