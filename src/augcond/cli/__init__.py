"""The command line: parse, call, print. Nothing here knows how anything is done.

Commands import what they call when they run, so that `augcond --help` is instant.
"""

from __future__ import annotations

import sys
from pathlib import Path

import typer

from augcond.cli import data, experiments, generation
from augcond.cli.output import GO_ON, say, stoppable
from augcond.errors import AugcondError

__all__ = ["app", "main"]

app = typer.Typer(
    help="Synthetic training images by augmented conditioning of pretrained diffusion models.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

# In the order of the help page.
for _command in (
    experiments.demo,
    data.inspect,
    generation.plan,
    generation.generate,
    generation.status,
    generation.check,
    generation.export,
    data.preview,
    data.generators,
    experiments.train,
    experiments.evaluate,
    experiments.run,
    experiments.sweep,
    experiments.power,
    experiments.report,
):
    app.command()(stoppable(_command))


def main() -> None:
    """Run the command line; errors end with one message and exit code 1 or 2."""
    # Generators, recipes and readers of one's own lie beside the config; at the end, so that they shadow nothing.
    sys.path.append(str(Path.cwd()))
    try:
        app()
    except AugcondError as error:
        say(f"error: {error}")
        sys.exit(error.exit_code)
    except OSError as error:
        # A full disk, a lost mount, no permission: nothing half-done was committed.
        say(f"error: {error}; {GO_ON}")
        sys.exit(1)
