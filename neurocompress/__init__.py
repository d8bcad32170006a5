"""neurocompress: from a trained spiking neural network to a neuromorphic chip.

The verbs of the command line as functions: load, check, compress, deploy, simulate, compare.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .version import __version__ as __version__

if TYPE_CHECKING:
    from .verbs.check import check as check
    from .verbs.check import check_compressed as check_compressed
    from .verbs.compare import compare as compare
    from .verbs.compress import compress as compress
    from .verbs.deploy import deploy as deploy
    from .verbs.load import load as load
    from .verbs.simulate import simulate as simulate

__all__ = ["check", "check_compressed", "compare", "compress", "deploy", "load", "simulate"]

_HOMES = {name: name for name in __all__} | {"check_compressed": "check"}


def __getattr__(name: str) -> Any:
    """Verbs are imported when they are used: `import neurocompress` and `check` need no torch."""
    if name not in _HOMES:
        raise AttributeError(f"module 'neurocompress' has no attribute '{name}'")
    from importlib import import_module

    return getattr(import_module(f".verbs.{_HOMES[name]}", __name__), name)
