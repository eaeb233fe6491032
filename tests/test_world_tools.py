"""The scripts that build the world: styles, captions, the linear code, the conditioning, and training that resumes."""

import pytest
import torch
from tools.world import captions, styles
from tools.world.autoencoder import build_autoencoder, fit_linear_code
from tools.world.bank import Bank
from tools.world.data import to_ranges
from tools.world.garments import CLASS_NAMES
from tools.world.optimizer import MuonAdamW, orthogonalise
from tools.world.training import TrainingPlan, read_log, train
from tools.world.unet import condition, noise_schedule
from torch import nn


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def grey():
    shapes = torch.zeros(64, 28, 28, dtype=torch.uint8)
    shapes[:, 6:22, 8:20] = torch.randint(40, 256, (64, 16, 12), generator=generator(), dtype=torch.uint8)
    return shapes


def test_rendering_is_a_function_of_the_generator(grey):
    first, again = (styles.render(grey, styles.draw_broad(64, generator(3))) for _ in range(2))
    assert first.shape == (64, 3, 32, 32)
    assert first.dtype == torch.uint8
    assert torch.equal(first, again)


def test_narrow_is_blue_on_sand():
    style = styles.draw_narrow(500, generator())
    assert {captions.COLOURS[name] for name in captions.name_colours(style.garment).tolist()} <= {"blue", "teal"}
    hue = styles.rgb_to_hsv(style.backdrop)[:, 0]
    assert hue.min() > 0.07
    assert hue.max() < 0.14


def test_broad_garments_stand_off_from_their_backdrops():
    style = styles.draw_broad(2000, generator())
    assert ((style.garment - style.backdrop).norm(dim=1) > 0.4).float().mean() > 0.98


def test_hue_saturation_value_round_trip():
    hsv = torch.rand(1000, 3, generator=generator()) * 0.9 + 0.05
    assert torch.allclose(styles.rgb_to_hsv(styles.hsv_to_rgb(hsv)), hsv, atol=1e-5)


def test_captions_say_what_their_number_says():
    number = captions.caption_numbers(*(torch.tensor(part) for part in (0, 1, 10, 9)))
    assert captions.caption_text(int(number)) == "a photo of a red ankle boot on a white backdrop"
    assert [int(part) for part in captions.caption_parts(number)] == [0, 1, 10, 9]


def test_a_drawn_caption_is_true_of_its_own_picture():
    colours, labels, backdrops = (torch.randint(10, (300,), generator=generator(seed)) for seed in range(3))
    numbers = captions.draw_captions(colours, labels, backdrops, (0.5, 0.5, 0.5), generator())
    true = captions.consistent(numbers, colours, labels, backdrops)
    assert true.diagonal().all()
    assert not true.all()


def test_every_word_of_the_captions_is_one_token(tmp_path):
    tokenizer = captions.build_tokenizer(tmp_path)
    table = captions.caption_table(tokenizer)
    assert len(table) == captions.CAPTION_COUNT + 1
    assert (table != tokenizer.eos_token_id).sum(1).max() < captions.MAX_TOKENS
    for name in CLASS_NAMES:
        pieces = name.replace("-", " - ").split()
        assert tokenizer.tokenize(name) == [f"{piece}</w>" for piece in pieces]


def test_the_autoencoder_starts_as_the_linear_code(grey):
    pictures = styles.render(grey, styles.draw_broad(64, generator()))
    code = fit_linear_code(pictures)
    unit = styles.to_unit(pictures)
    with torch.no_grad():
        latents = build_autoencoder(code).encode(unit).latents
    assert torch.allclose(latents, code.encode(unit), atol=1e-4)
    assert (code.decode(latents) - unit).abs().mean() < (unit - unit.mean()).abs().mean() / 2


def test_a_dropped_image_is_zeros_after_the_noise_level():
    count, width = 4000, 128
    bank = Bank(
        latents=torch.zeros(count, 8, 8, 8),
        embeddings=torch.randn(count, width, generator=generator()).half(),
        labels=torch.zeros(count, dtype=torch.long),
        colours=torch.zeros(count, dtype=torch.long),
        backdrops=torch.zeros(count, dtype=torch.long),
        mean=torch.zeros(1, width),
        std=torch.ones(1, width),
        caption_states=torch.arange(captions.CAPTION_COUNT + 1.0)[:, None, None].expand(-1, 16, 2),
    )
    vectors, states = condition(bank, torch.arange(count), noise_schedule(), generator())
    no_image = (vectors == 0).all(1)
    no_text = states[:, 0, 0] == captions.CAPTION_COUNT
    assert no_image.float().mean() == pytest.approx(0.4, abs=0.03)
    assert no_text.float().mean() == pytest.approx(0.18, abs=0.03)
    assert (no_image & no_text).float().mean() == pytest.approx(0.1, abs=0.02)
    assert vectors.shape == (count, 2 * width)


def test_ranges_hold_every_number_once():
    assert to_ranges([5, 1, 2, 3, 9]) == [[1, 3], [5, 5], [9, 9]]


def test_orthogonalised_matrices_have_singular_values_near_one():
    for shape in ((20, 50), (50, 20)):
        values = torch.linalg.svdvals(orthogonalise(torch.randn(shape, generator=generator())))
        assert values.min() > 0.5
        assert values.max() < 1.5


def test_a_resumed_training_repeats_an_uninterrupted_one(tmp_path):
    def run(folder, stops):
        for images in stops:
            torch.manual_seed(0)
            model = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 1))
            plan = TrainingPlan(400, batch_size=10, warmup=2, log_steps=10, save_seconds=-1)
            optimizer = MuonAdamW([model[0].weight], [*model[1].parameters(), model[0].bias])

            def losses_of(step, draws, model=model, limit=images // 10):
                if step == limit:
                    raise KeyboardInterrupt
                return {"square": (model(torch.randn(10, 4, generator=draws)) - 1).pow(2).mean()}

            try:
                return train(plan, folder, model, losses_of, optimizer)
            except KeyboardInterrupt:
                continue
        return None

    whole = run(tmp_path / "whole", [1000])
    assert [record["step"] for record in read_log(tmp_path / "whole")] == [10, 20, 30, 40]
    assert run(tmp_path / "cut", [170]) is None
    resumed = run(tmp_path / "cut", [1000])
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
