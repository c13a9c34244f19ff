"""Four workflows on real files; `example_flows` registers and serves them all.

Each module also runs alone: ``python examples/workflows/daily_sales_etl.py``. A script finds its
neighbours by their plain names, a module of a package by relative ones; the few modules that need a
neighbour import it both ways and let ``__package__`` decide.
"""
