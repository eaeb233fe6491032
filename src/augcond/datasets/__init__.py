"""Labelled real images: listed, decoded once, found whole, or recorded with the reason why not.

The names of `__init__.pyi` are imported when they are first used: Pillow and pyarrow take longer to import than
`augcond --help` may take.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
