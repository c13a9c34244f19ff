"""``python -m tests.benchmarks [CALLS]``: print the table; default 100,000 calls and lines."""

import sys

from tests.benchmarks.measure import measure_all, table

size = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
print(table(measure_all(size, size, idle=10)))
