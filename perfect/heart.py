"""Signs of life while a run is active."""

from __future__ import annotations

import threading

from perfect.delivery import Sender
from perfect.errors import BackendError
from perfect.threads import spawn

HEARTBEAT = 3.0  # s


class Heart:
    """Tells the backend every 3 s that this session lives, while a run is active; hears what is to be cancelled.

    Args:
        busy: set while a run is active; the thread sleeps without waking while it is not.
    """

    def __init__(self, sender: Sender, busy: threading.Event) -> None:
        self._sender = sender
        self._busy = busy
        self._stopped = threading.Event()
        self.thread = spawn("perfect-heartbeat", self._run)

    def close(self) -> None:
        """Stop beating."""
        self._stopped.set()
        self._busy.set()

    def _run(self) -> None:
        while not self._stopped.is_set():
            self._busy.wait()
            if self._stopped.wait(HEARTBEAT) or not self._busy.is_set():
                continue
            sender = self._sender
            if sender.reporter is None:
                continue  # nobody to tell
            try:
                sender.client.request("POST", "/api/heartbeat")
            except BackendError:  # the sender finds out by itself
                pass
