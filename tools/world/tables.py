"""Put the measured numbers into `docs/world.md`, between its `<!-- numbers -->` marks.

python -m tools.world.tables
"""

from __future__ import annotations

import json
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
PAGE = REPOSITORY / "docs/world.md"
RESULTS = REPOSITORY / "benchmarks/results/world.json"
MARKS = "<!-- numbers -->", "<!-- end of numbers -->"


def numbers(results: dict) -> str:
    """The tables of one benchmark record, as Markdown."""
    grid = _grid(results["grid"], results["latents_seen"]["grid"])
    return "\n\n".join([_trained(results["training"]), _asked(results), _classes(results), grid])


def _trained(training: dict[str, dict[str, float]]) -> str:
    rows = [(stage, f"{record['images']:,.0f}", f"{record['seconds'] / 60:.0f}") for stage, record in training.items()]
    return "What the measured checkpoint has seen:\n\n" + _table(("stage", "pictures", "minutes"), rows)


def _asked(results: dict) -> str:
    autoencoder, embedding, judges = results["autoencoder"], results["embedding"], results["judges"]
    text, image = results["samples"]["text"], results["samples"]["image"]
    plain, oracle = results["plain_diffusers"], judges["oracle"]
    bar = 0.9 * oracle
    lines = [
        (
            "autoencoder: error / error of the linear code",
            autoencoder["ratio"],
            "<= 0.92",
            autoencoder["ratio"] <= 0.92,
        ),
        ("embedding: linear probe, any style", embedding["linear_probe"], ">= 0.85", embedding["linear_probe"] >= 0.85),
        (
            "embedding: re-identified among 1,000",
            embedding["reidentified_of_1000"],
            ">= 0.90",
            embedding["reidentified_of_1000"] >= 0.9,
        ),
        ("`text`: class right by the oracle", text["class_right"], f">= {bar:.3f}", text["class_right"] >= bar),
        ("`image`: class right by the oracle", image["class_right"], f">= {bar:.3f}", image["class_right"] >= bar),
        ("`image`: narrow style", image["narrow"], ">= 0.80", image["narrow"] >= 0.8),
        ("`text`: narrow style", text["narrow"], "<= 0.25", text["narrow"] <= 0.25),
        ("64 pictures, seconds", plain["seconds"], "< 12", plain["seconds"] < 12),
    ]
    rows = [(what, f"{value:.3f}", bound, "yes" if reached else "**no**") for what, value, bound, reached in lines]
    beside = [
        (
            f"64 pictures: processor seconds, with {plain['threads']} threads",
            f"{plain['processor_seconds']:.1f}",
        ),
        (
            "autoencoder error, linear code's error, in [-1, 1]",
            f"{autoencoder['learned']:.4f}, {autoencoder['linear']:.4f}",
        ),
        ("nearest neighbour of the embedding has the same class", f"{embedding['nearest_neighbour_same_class']:.3f}"),
        ("oracle on held-out garments, all styles; on the pool", f"{oracle:.3f}; {judges['oracle_on_pool']:.3f}"),
        ("domain judge on held-out garments; on the pool", f"{judges['domain']:.3f}; {judges['domain_on_pool']:.3f}"),
        ("`image`: the nearest of the pool's 2,000 is the source", f"{image['nearest_is_source']:.3f}"),
        (
            "distance within a class: real, `image`, `text`",
            f"{results['samples']['real_pairwise_distance']:.3f}, {image['pairwise_distance']:.3f}, "
            f"{text['pairwise_distance']:.3f}",
        ),
    ]
    head = f"At guidance {results['defaults']['guidance']:g} and {results['defaults']['steps']} steps:\n\n"
    asked = _table(("what", "measured", "asked", "reached"), rows)
    return head + asked + "\n\nBeside these:\n\n" + _table(("what", "measured"), beside)


def _classes(results: dict) -> str:
    text, image = (results["samples"][mode]["class_right_by_class"] for mode in ("text", "image"))
    rows = [(name, f"{text[name]:.2f}", f"{image[name]:.2f}") for name in text]
    return "Class right, by class:\n\n" + _table(("class", "`text`", "`image`"), rows)


def _grid(rows: list[dict], seen: float) -> str:
    cells: dict[tuple[float, int], dict[str, dict]] = {}
    for row in rows:
        cells.setdefault((row["guidance"], row["steps"]), {})[row["mode"]] = row
    body = []
    for (guidance, steps), modes in cells.items():
        text, image = modes["text"], modes["image"]
        values = [row[name] for name in ("class_right", "narrow", "pairwise_distance") for row in (text, image)]
        body.append((f"{guidance:g}", str(steps), *(f"{value:.3f}" for value in values)))
    heads = ("guidance", "steps", "right `text`", "right `image`", "narrow `text`", "narrow `image`")
    table = _table((*heads, "distance `text`", "distance `image`"), body)
    return f"Guidance and steps, measured when the UNet had seen {seen:,.0f} latents:\n\n{table}"


def _table(heads: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [heads, ("---",) * len(heads), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main() -> None:
    """Rewrite the page's numbers."""
    page = PAGE.read_text()
    before, after = page.split(MARKS[0])[0], page.split(MARKS[1])[1]
    PAGE.write_text(f"{before}{MARKS[0]}\n\n{numbers(json.loads(RESULTS.read_text()))}\n\n{MARKS[1]}{after}")


if __name__ == "__main__":
    main()
