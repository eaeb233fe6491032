"""What to cite: the method, the generator, and this tool, as BibTeX."""

from __future__ import annotations

from importlib.metadata import version

_METHOD = """@misc{chen2025augmented,
  title = {Augmented Conditioning Is Enough For Effective Training Image Generation},
  author = {Chen, Jiahui and Zhang, Amy and Romero-Soriano, Adriana},
  year = {2025},
  eprint = {2502.04475},
  archivePrefix = {arXiv}
}"""

_UNCLIP = """@misc{ramesh2022hierarchical,
  title = {Hierarchical Text-Conditional Image Generation with {CLIP} Latents},
  author = {Ramesh, Aditya and Dhariwal, Prafulla and Nichol, Alex and Chu, Casey and Chen, Mark},
  year = {2022},
  eprint = {2204.06125},
  archivePrefix = {arXiv}
}"""
_LATENT = """@inproceedings{rombach2022high,
  title = {High-Resolution Image Synthesis with Latent Diffusion Models},
  author = {Rombach, Robin and Blattmann, Andreas and Lorenz, Dominik and Esser, Patrick and Ommer, Bj{\\"o}rn},
  booktitle = {CVPR},
  year = {2022}
}"""
_SDXL = """@misc{podell2023sdxl,
  title = {{SDXL}: Improving Latent Diffusion Models for High-Resolution Image Synthesis},
  author = {Podell, Dustin and English, Zion and Lacey, Kyle and Blattmann, Andreas and Dockhorn, Tim and others},
  year = {2023},
  eprint = {2307.01952},
  archivePrefix = {arXiv}
}"""
_ADAPTER = """@misc{ye2023ip,
  title = {{IP-Adapter}: Text Compatible Image Prompt Adapter for Text-to-Image Diffusion Models},
  author = {Ye, Hu and Zhang, Jun and Liu, Sibo and Han, Xiao and Yang, Wei},
  year = {2023},
  eprint = {2308.06721},
  archivePrefix = {arXiv}
}"""
_KANDINSKY = """@misc{razzhigaev2023kandinsky,
  title = {Kandinsky: an Improved Text-to-Image Synthesis with Image Prior and Latent Diffusion},
  author = {Razzhigaev, Anton and Shakhmatov, Arseniy and Maltseva, Anastasia and Arkhipkin, Vladimir and others},
  year = {2023},
  eprint = {2310.03502},
  archivePrefix = {arXiv}
}"""

_FAMILIES = {
    "stable-unclip": (_LATENT, _UNCLIP),
    "ip-adapter": (_LATENT, _ADAPTER),
    "ip-adapter-xl": (_SDXL, _ADAPTER),
    "kandinsky-2.2": (_KANDINSKY,),
    "stable-diffusion": (_LATENT,),
}
"""Of the families whose papers are known here; of any other its model is named."""


def bibtex(family: str, model: str, revision: str) -> str:
    """Return the entries to cite for what a run made, beside its data.

    Args:
        family: `generator.name`.
        model: which weights, as the run records them.
        revision: of these.
    """
    entries = [_METHOD, *_FAMILIES.get(family, ())]
    if model not in ("builtin", "", family):
        note = f"{model}, revision {revision}" if revision else model
        entries.append(f"@misc{{generator,\n  title = {{{braced(model)}}},\n  note = {{Weights: {braced(note)}}}\n}}")
    entries.append(
        "@software{augcond,\n  title = {augcond: synthetic training images by augmented conditioning},\n"
        f"  author = {{{{The augcond developers}}}},\n  version = {{{version('augcond')}}}\n}}"
    )
    return "\n\n".join(entries) + "\n"


def braced(text: str) -> str:
    """Return `text` for between braces: letters, digits and what model names are made of."""
    return "".join(character if character.isalnum() or character in "/.-:, " else r"\_" for character in text)
