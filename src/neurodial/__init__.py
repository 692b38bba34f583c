"""neurodial: find the few neurons behind a behaviour of a language model, and turn it up or down.

Names are imported when they are first used, so `import neurodial` is quick and loads no torch. `__init__.pyi` is the
list of them, for `lazy_loader` and for type checkers.
"""

import logging

__version__ = "0.1.0"

try:
    import lazy_loader
except ModuleNotFoundError:  # beside vLLM, where the plugin alone is used and our dependencies need not be

    def __getattr__(name: str) -> object:
        raise AttributeError(f"neurodial.{name} needs neurodial's dependencies: pip install neurodial")
else:
    __getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

logging.getLogger("neurodial").addHandler(logging.NullHandler())
