"""What mypy is to find in scripts that use augcond; `make check` reads this file, and nothing runs it.

Where mypy no longer complains of a line, the comment on it is unused, which is an error.
"""

import augcond
import augcond.torch

augcond.generat  # type: ignore[attr-defined]
augcond.torch.RunDatasets  # type: ignore[attr-defined]
augcond.load_config(3)  # type: ignore[arg-type]
augcond.RunDataset("runs/photos")  # type: ignore[attr-defined]
images: list[int] = augcond.torch.RunDataset("runs/photos").keys  # type: ignore[assignment]
