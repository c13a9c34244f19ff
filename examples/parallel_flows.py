"""Several flows at once, each in a thread of its own.

Run it: ``python examples/parallel_flows.py``. Every thread has its own run: what a task prints stands
in the run it belongs to, although all of them share one terminal.
"""

from __future__ import annotations

import hashlib
import threading
import zlib
from collections import Counter

from perfect.sdk import flow, task

TEXT = "the quick brown fox jumps over the lazy dog and the dog does not mind " * 20_000


@task(estimated_time=100)
def compress(text: str) -> bytes:
    """Compress the text"""
    packed = zlib.compress(text.encode(), level=9)
    print(f"{len(text):,} characters in {len(packed):,} bytes")
    return packed


@task(estimated_time=100)
def count_words(text: str) -> Counter[str]:
    """Count how often each word occurs"""
    words = Counter(text.split())
    print(f"{words.total():,} words, {len(words)} of them different")
    return words


@task(estimated_time=100)
def digest(text: str) -> str:
    """Compute the SHA-256 digest of the text"""
    value = hashlib.sha256(text.encode()).hexdigest()
    print(f"SHA-256 {value}")
    return value


@flow(name="Compress Text", tags={"example": "parallel"})
def compress_text() -> int:
    """Compress the text and say how small it became"""
    return len(compress(TEXT))


@flow(name="Count Words", tags={"example": "parallel"})
def most_common_word() -> str:
    """Find the most common word"""
    return count_words(TEXT).most_common(1)[0][0]


@flow(name="Digest Text", tags={"example": "parallel"})
def digest_text() -> str:
    """Digest the text"""
    return digest(TEXT)


def main() -> None:
    """Start the three flows and wait for all of them."""
    threads = [
        threading.Thread(target=flow_func)
        for flow_func in (compress_text, most_common_word, digest_text)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
