"""Finds the flows of a user's file or module."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from types import ModuleType
from typing import Any

from perfect.errors import ConfigurationError, NotFound
from perfect.sdk import Flow


def load_module(source: str) -> ModuleType:
    """Import a file (``etl.py``, ``jobs/etl.py``) or a module (``jobs.etl``).

    The file's folder, or the working directory, comes first on `sys.path`, as when Python runs it.

    Raises:
        NotFound: there is no such file or module.
        ConfigurationError: it can't be imported; says why.
    """
    is_file = source.endswith(".py") or os.sep in source
    folder = os.path.dirname(os.path.abspath(source)) if is_file else os.getcwd()
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        if not is_file:
            return importlib.import_module(source)
        if not os.path.isfile(source):
            raise NotFound("file", source)
        name = os.path.splitext(os.path.basename(source))[0]
        spec = importlib.util.spec_from_file_location(name, source)
        if spec is None or spec.loader is None:
            raise ConfigurationError("FILE", source, "is no Python file")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
        return module
    except ModuleNotFoundError as error:
        if not is_file and error.name is not None and source.split(".")[0] == error.name:
            raise NotFound("module", source) from None
        raise ConfigurationError("FILE", source, f"can't be imported: {error}") from error
    except (NotFound, ConfigurationError):
        raise
    except Exception as error:
        raise ConfigurationError(
            "FILE", source, f"can't be imported: {type(error).__name__}: {error}"
        ) from error


def load_flows(source: str) -> dict[str, Any]:
    """The flows of a file or module, by variable name and by flow name: `sdk.Flow` and `core.Flow`."""
    module = load_module(source)
    # A file that has a flow of perfect.core has loaded it; the others need not wait 20 ms for it.
    core = sys.modules.get("perfect.core")
    kinds = (Flow,) if core is None else (Flow, core.Flow)
    flows: dict[str, Any] = {}
    for name, value in vars(module).items():
        if isinstance(value, kinds):
            flows[name] = value
            flows.setdefault(value.name, value)
    return flows
