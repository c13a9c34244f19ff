"""``python -m tests.support.backend_with '{"silence": 5}' --port …``: a backend with settings that its command line lacks."""

from __future__ import annotations

import argparse
import json
import sys

from perfect.server.serve import run_server
from perfect.server.settings import ServerSettings
from perfect.server.webhooks import Webhook


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("settings", help="JSON, of `ServerSettings`")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--db", required=True)
    options = parser.parse_args()
    given = json.loads(options.settings)
    given["webhooks"] = tuple(Webhook(**hook) for hook in given.get("webhooks", ()))
    run_server(ServerSettings(port=options.port, db=options.db, **given))
    return 0


if __name__ == "__main__":
    sys.exit(main())
