"""Captions: what they say, how they are numbered, and the tokenizer that reads them.

A caption is (phrase, colour, garment, backdrop), any of the last three may be unnamed. There are few enough that every
caption has a number, and one table holds the tokens of all of them.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from tools.world.garments import CLASS_NAMES
from tools.world.styles import rgb_to_hsv
from torch import Generator, Tensor

if TYPE_CHECKING:
    from transformers import CLIPTokenizer

PHRASES = ("a photo of a", "a", "a picture of a", "an image of a")
PHRASE_SHARES = (0.6, 0.2, 0.1, 0.1)
COLOURS = ("red", "orange", "yellow", "green", "teal", "blue", "purple", "pink", "white", "grey", "black")
UNNAMED_GARMENT = "garment"
MAX_TOKENS = 16
_HUE_EDGES = torch.tensor([0.04, 0.11, 0.19, 0.42, 0.53, 0.70, 0.82, 0.95])  # red wraps around
_SHAPE = (len(PHRASES), len(COLOURS) + 1, len(CLASS_NAMES) + 1, len(COLOURS) + 1)
CAPTION_COUNT = _SHAPE[0] * _SHAPE[1] * _SHAPE[2] * _SHAPE[3]


def name_colours(rgb: Tensor) -> Tensor:
    """(..., 3) RGB in [0, 1] as indices into `COLOURS`."""
    hue, saturation, value = rgb_to_hsv(rgb).unbind(-1)
    names = torch.bucketize(hue.contiguous(), _HUE_EDGES) % 8
    plain = torch.where(value > 0.8, 8, torch.where(value > 0.3, 9, 10))
    return torch.where((saturation < 0.18) | (value < 0.2), plain, names)


def draw_captions(
    colours: Tensor, labels: Tensor, backdrops: Tensor, rates: tuple[float, float, float], generator: Generator
) -> Tensor:
    """Draw a caption for each picture.

    Args:
        colours: (B,) garment colour, index into `COLOURS`.
        labels: (B,) class.
        backdrops: (B,) backdrop colour, index into `COLOURS`.
        rates: how often colour, garment and backdrop are named.
        generator: draws phrase and gaps.

    Returns:
        (B,) caption numbers.
    """
    count = len(labels)
    named = torch.rand(count, 3, generator=generator) < torch.tensor(rates)
    phrase = torch.multinomial(torch.tensor(PHRASE_SHARES), count, replacement=True, generator=generator)
    said = torch.where(named, torch.stack([colours, labels, backdrops], dim=1) + 1, 0)
    return caption_numbers(phrase, *said.unbind(1))


def caption_numbers(phrase: Tensor, colour: Tensor, garment: Tensor, backdrop: Tensor) -> Tensor:
    """Number captions from their parts (0 = unnamed, else index + 1)."""
    return ((phrase * _SHAPE[1] + colour) * _SHAPE[2] + garment) * _SHAPE[3] + backdrop


def caption_parts(numbers: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Phrase, colour, garment, backdrop of caption numbers (0 = unnamed, else index + 1)."""
    rest, backdrop = numbers // _SHAPE[3], numbers % _SHAPE[3]
    rest, garment = rest // _SHAPE[2], rest % _SHAPE[2]
    return rest // _SHAPE[1], rest % _SHAPE[1], garment, backdrop


def consistent(numbers: Tensor, colours: Tensor, labels: Tensor, backdrops: Tensor) -> Tensor:
    """(pictures, captions) bool: the caption says nothing false of the picture."""
    _, said_colour, said_garment, said_backdrop = caption_parts(numbers)
    true = torch.ones(len(labels), len(numbers), dtype=torch.bool)
    for said, fact in ((said_colour, colours), (said_garment, labels), (said_backdrop, backdrops)):
        true &= (said == 0)[None] | (said[None] == fact[:, None] + 1)
    return true


def caption_text(number: int) -> str:
    """The words of one caption."""
    phrase, colour, garment, backdrop = (int(part) for part in caption_parts(torch.tensor(number)))
    words = [PHRASES[phrase]]
    if colour:
        words.append(COLOURS[colour - 1])
    words.append(CLASS_NAMES[garment - 1] if garment else UNNAMED_GARMENT)
    if backdrop:
        words.append(f"on a {COLOURS[backdrop - 1]} backdrop")
    return " ".join(words)


def build_tokenizer(folder: Path) -> CLIPTokenizer:
    """Write a CLIP tokenizer whose merges spell exactly the captions' words; other words fall back to letters."""
    from transformers import CLIPTokenizer

    text = " ".join(caption_text(number) for number in range(CAPTION_COUNT))
    words = sorted(set(re.findall(r"[a-z]+|[^\sa-z]", text)))
    symbols = [chr(code) for code in range(33, 127)]
    vocabulary = symbols + [f"{symbol}</w>" for symbol in symbols]
    merges: list[tuple[str, str]] = []
    for word in words:
        left, *rest = _apply_merges([*word[:-1], f"{word[-1]}</w>"], merges)
        for right in rest:
            merges.append((left, right))
            left += right
    vocabulary += list(dict.fromkeys(left + right for left, right in merges))
    vocabulary += ["<|startoftext|>", "<|endoftext|>"]
    numbers = {token: number for number, token in enumerate(vocabulary)}
    start, end = vocabulary[-2:]
    tokenizer = CLIPTokenizer(
        vocab=numbers,
        merges=merges,
        model_max_length=MAX_TOKENS,
        unk_token=end,
        bos_token=start,
        eos_token=end,
        pad_token=end,
    )
    tokenizer.save_pretrained(folder)
    # transformers 4 reads these two instead of tokenizer.json
    (folder / "vocab.json").write_text(json.dumps(numbers) + "\n")
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{left} {right}\n" for left, right in merges))
    return CLIPTokenizer.from_pretrained(folder)


def _apply_merges(pieces: list[str], merges: list[tuple[str, str]]) -> list[str]:
    for left, right in merges:  # in order of rank; each pair was learned after the pairs it is made of
        position = 0
        while position < len(pieces) - 1:
            if (pieces[position], pieces[position + 1]) == (left, right):
                pieces[position : position + 2] = [left + right]
            position += 1
    return pieces


def tokenize(tokenizer: CLIPTokenizer, texts: list[str]) -> Tensor:
    """(N, MAX_TOKENS) int64 token numbers, padded as the pipeline pads."""
    batch = tokenizer(texts, padding="max_length", max_length=MAX_TOKENS, truncation=True, return_tensors="pt")
    return batch.input_ids


def caption_table(tokenizer: CLIPTokenizer) -> Tensor:
    """(CAPTION_COUNT + 1, MAX_TOKENS) tokens of every caption; the last row is the empty prompt."""
    return tokenize(tokenizer, [caption_text(number) for number in range(CAPTION_COUNT)] + [""])
