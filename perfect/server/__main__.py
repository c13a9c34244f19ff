"""``python -m perfect.server``."""

import sys

from perfect.server.serve import main

sys.exit(main())
