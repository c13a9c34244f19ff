"""How often somebody may get it wrong: attempts counted per peer address, in memory, for so many peers."""

from __future__ import annotations

import ipaddress
import math
import threading
from collections import OrderedDict

from perfect.server.engine.clock import Clock

_MOST_PEERS = 10_000
# an IPv6 subscriber has a whole network of addresses
_SUBSCRIBER = 64


class Throttle:
    """Lets each peer fail so many times in a window of time.

    Args:
        clock: the time.
        allowed: failures of one peer in a window.
        window: s.
        peers: of how many peers failures are remembered; beyond that the longest ago are forgotten.
    """

    def __init__(
        self, clock: Clock, allowed: int, window: float = 60.0, peers: int = _MOST_PEERS
    ) -> None:
        self._clock = clock
        self._allowed = allowed
        self._window = window
        self._peers = peers
        self._failed: OrderedDict[str, tuple[float, int]] = OrderedDict()
        self._lock = threading.Lock()

    def wait(self, peer: str) -> int:
        """s until that peer may try again; 0 when it may now."""
        with self._lock:
            began, count = self._failed.get(_network(peer), (0.0, 0))
        left = began + self._window - self._clock.monotonic()
        return 0 if count < self._allowed or left <= 0 else math.ceil(left)

    def failed(self, peer: str) -> int:
        """Count a failure; how many it has now in this window."""
        network, now = _network(peer), self._clock.monotonic()
        with self._lock:
            began, count = self._failed.pop(network, (now, 0))
            if not began <= now < began + self._window:
                began, count = now, 0
            self._failed[network] = (began, count + 1)
            while len(self._failed) > self._peers:
                self._failed.popitem(last=False)
        return count + 1

    def __len__(self) -> int:
        return len(self._failed)


def _network(peer: str) -> str:
    try:
        address = ipaddress.ip_address(peer)
    except ValueError:
        return peer
    if address.version == 4:
        return peer
    return str(ipaddress.ip_network((int(address), _SUBSCRIBER), strict=False))
