"""The HTML report of a run, made from the database whenever it is asked for.

Nothing is written to disk: a report always holds the last line, needs no file name made of what a client sent,
costs the ingest nothing and goes when its run goes.
"""

from perfect.server.reports.render import pieces, size

__all__ = ["pieces", "size"]
