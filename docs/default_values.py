"""An extension of Griffe, which reads the code for the page of the Python API."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from griffe import ExprName, Extension, Function, GriffeLoader


class DefaultValues(Extension):
    """Shows a default value such as 40, where the code has the name of a constant."""

    def on_function(self, *, func: Function, loader: GriffeLoader, **_: Any) -> None:
        """Replace names among the defaults of a function. Called when the whole package has been read."""
        for parameter in func.parameters:
            if isinstance(parameter.default, ExprName):
                with suppress(KeyError):  # not a simple constant
                    constant = loader.modules_collection[parameter.default.canonical_path]
                    parameter.default = constant.value
