"""One static page that shows a run: what went in, what was made, whether it helped, and what it cost.

The names of `__init__.pyi` are imported when they are first used: jinja2, matplotlib and torch take longer to import
than `augcond --help` may take.
"""

import lazy_loader

from augcond.guest import import_matplotlib

import_matplotlib()

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
