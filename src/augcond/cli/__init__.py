"""The command line: parse, call, print. Nothing here knows how anything is done.

Commands import what they call when they run, so that `augcond --help` is instant.
"""

from __future__ import annotations

from typing import Annotated

import typer

from augcond.cli import data, experiments, generation, machines, tuning

__all__ = ["app"]

app = typer.Typer(
    help="Synthetic training images by augmented conditioning of pretrained diffusion models.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"augcond {version('augcond')}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Synthetic training images by augmented conditioning of pretrained diffusion models."""


# In the order of the help page.
for _command in (
    experiments.demo,
    data.init,
    data.inspect,
    generation.plan,
    generation.generate,
    generation.status,
    generation.check,
    generation.reject,
    generation.export,
    generation.push,
    generation.clean,
    data.preview,
    data.generators,
    data.schema,
    experiments.train,
    experiments.evaluate,
    experiments.run,
    experiments.sweep,
    tuning.tune,
    experiments.power,
    experiments.report,
    machines.launch,
    machines.doctor,
):
    app.command()(_command)
