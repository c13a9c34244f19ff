"""Graphs of tasks: what they are made of, and how they are run."""
