from types import SimpleNamespace

import torch

from augcond.generators.prompts import PromptEncoder


class Tokenizer:
    """One token per letter."""

    model_max_length = 6

    def __call__(self, prompt, return_tensors=None, **kwargs):
        codes = [ord(letter) for letter in prompt]
        if return_tensors is None:
            return SimpleNamespace(input_ids=codes)
        codes = (codes + [0] * 6)[:6]
        return SimpleNamespace(
            input_ids=torch.tensor([codes]), attention_mask=torch.tensor([[int(c > 0) for c in codes]])
        )


class TextEncoder:
    """Returns the codes as features and counts its calls."""

    device = torch.device("cpu")

    def __init__(self, use_attention_mask=False):
        self.config = SimpleNamespace(use_attention_mask=use_attention_mask)
        self.calls = []

    def __call__(self, input_ids, attention_mask=None, return_dict=True):
        assert input_ids.shape == (1, 6)
        self.calls.append("".join(chr(code) for code in input_ids[0] if code))
        self.mask = attention_mask
        return (input_ids[..., None].float(),)


def test_each_prompt_is_encoded_once_and_alone():
    text_encoder = TextEncoder()
    prompts = PromptEncoder(Tokenizer(), text_encoder)
    embeddings = prompts.encode(["ab", "c", "ab", ""])
    assert embeddings.shape == (4, 6, 1)
    assert embeddings[:, 0, 0].tolist() == [97, 99, 97, 0]
    prompts.encode(["c", "ab"])
    assert text_encoder.calls == ["ab", "c", ""]
    assert text_encoder.mask is None


def test_the_cache_keeps_what_was_used_last():
    text_encoder = TextEncoder()
    prompts = PromptEncoder(Tokenizer(), text_encoder, cache_bytes=2 * 6 * 4)
    prompts.encode(["a", "b"])
    prompts.encode(["a"])
    prompts.encode(["c"])
    prompts.encode(["a"])
    assert text_encoder.calls == ["a", "b", "c"]
    prompts.encode(["b"])
    assert text_encoder.calls == ["a", "b", "c", "b"]


def test_more_prompts_than_the_cache_holds_in_one_batch():
    prompts = PromptEncoder(Tokenizer(), TextEncoder(), cache_bytes=1)
    assert prompts.encode(["a", "b", "c", "a"])[:, 0, 0].tolist() == [97, 98, 99, 97]


def test_the_attention_mask_goes_to_models_that_want_it():
    text_encoder = TextEncoder(use_attention_mask=True)
    PromptEncoder(Tokenizer(), text_encoder).encode_uncached("ab")
    assert text_encoder.mask.tolist() == [[1, 1, 0, 0, 0, 0]]
