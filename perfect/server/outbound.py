"""Requests from the backend to addresses that somebody configured.

The backend may stand where its user can't reach: such a request must not become a way into the network around it
(server-side request forgery). The name is resolved once, every address it has must be a public one, and the
request goes to the address that was looked at, whatever the name resolves to a moment later. Redirects are not
followed.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl

import httpx

from perfect import __version__
from perfect.server.webhooks import Webhook, trust

# of the answer, which is of no interest, so much is read
_MOST = 64 * 1024
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
# of IPv6, only this is given out to the public (RFC 4291)
_UNICAST = ipaddress.ip_network("2000::/3")
# public by its number, but every machine of Azure has a service of its own there
_AZURE = ipaddress.ip_address("168.63.129.16")


class Undelivered(Exception):
    """It did not arrive; the message says why, and holds no address with a secret."""


class Sender:
    """Delivers webhooks.

    Args:
        timeout: seconds that a delivery may take.
    """

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._tls: dict[str, ssl.SSLContext] = {}

    async def post(self, hook: Webhook, body: str) -> None:
        """Deliver; returns when it was accepted.

        Raises:
            Undelivered: it was not.
        """
        try:
            async with asyncio.timeout(self._timeout):
                await self._post(hook, body.encode())
        except TimeoutError:
            raise Undelivered(f"no answer within {self._timeout:g} s") from None
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            raise Undelivered(f"{type(error).__name__}: {error}"[:500]) from None

    async def _post(self, hook: Webhook, body: bytes) -> None:
        url = httpx.URL(hook.url)
        port = url.port or (443 if url.scheme == "https" else 80)
        address = await _resolve(url.host, port, hook.allow_private)
        headers = {
            "Content-Type": "application/json",
            "User-Agent": f"perfect/{__version__}",
            **hook.headers,
            "Host": url.netloc.decode("ascii"),
        }
        # a client of its own: a kept connection to this address may be to another host
        async with httpx.AsyncClient(
            verify=self._trust(hook.ca),
            trust_env=False,
            follow_redirects=False,
            timeout=self._timeout,
        ) as client:
            async with client.stream(
                "POST",
                url.copy_with(host=address),
                content=body,
                headers=headers,
                extensions={"sni_hostname": url.host},
            ) as response:
                status = response.status_code
                size = 0
                async for piece in response.aiter_raw():
                    size += len(piece)
                    if size > _MOST:
                        break
        if 300 <= status < 400:
            raise Undelivered(f"answered {status}: redirects are not followed")
        if not 200 <= status < 300:
            raise Undelivered(f"answered {status}")

    def _trust(self, ca: str) -> ssl.SSLContext:
        # made once: reading the certificates of the system takes tens of ms
        if ca not in self._tls:
            self._tls[ca] = trust(ca)
        return self._tls[ca]


async def _resolve(host: str, port: int, allow_private: bool) -> str:
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise Undelivered(f"{host} is not known: {error.strerror or error}") from None
    addresses = [str(info[4][0]) for info in found]
    for address in addresses:
        if not allow_private and not is_public(address):
            raise Undelivered(
                f"{host} is {address}, which is not a public address (allow_private = true allows it)"
            )
    return addresses[0]


def is_public(address: str) -> bool:
    """Whether an IP address is one of the public internet, also when it is wrapped in another."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if ip in _NAT64:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFF_FFFF)
        if inner is not None:
            return is_public(str(inner))
        if ip not in _UNICAST:
            return False
    return ip.is_global and not ip.is_multicast and ip != _AZURE
