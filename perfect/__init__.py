"""Workflow orchestration for Python people: decorate your functions, run them, see what happened."""

__version__ = "0.1.0"
