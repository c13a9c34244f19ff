"""Who is speaking: a client group, and one process of it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Speaker:
    """The sender of a request.

    Attributes:
        session: one life of one process; for a peer that does not say, its address with an ``@`` in front.
        client: the group whose flows these are; "" for a peer that does not say.
        native: it speaks the native part of the protocol, so it beats while a run is active.
        agent: what program it says it is; "" when it does not.
    """

    session: str
    client: str
    native: bool
    agent: str = ""
