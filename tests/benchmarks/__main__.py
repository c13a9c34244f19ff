"""Print the tables: ``python -m tests.benchmarks [client | graphs] [SIZE]``.

SIZE: calls and lines of a client (default 100,000), nodes of a graph (default 10,000).
"""

import sys

from tests.benchmarks import graphs, measure

if __name__ == "__main__":
    wanted = [word for word in sys.argv[1:] if not word.isdigit()] or ["client", "graphs"]
    size = next((int(word) for word in sys.argv[1:] if word.isdigit()), None)
    if "client" in wanted:
        calls = size or 100_000
        print(measure.table(measure.measure_all(calls, calls, idle=10)))
    if "graphs" in wanted:
        nodes = size or 10_000
        print(graphs.table(graphs.measure_all(nodes, nodes // 10, nodes * 10)))
