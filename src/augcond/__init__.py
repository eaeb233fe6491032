"""Synthetic training images by augmented conditioning of pretrained diffusion models.

The public names stand in `__init__.pyi`, once. They are imported when they are first used, so that `import augcond`
costs next to nothing.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
