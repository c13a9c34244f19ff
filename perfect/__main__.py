"""``python -m perfect``: the `perfect` command."""

from perfect.cli import main

raise SystemExit(main())
