"""WHIP and WHEP by hand, for clients that have neither."""

import asyncio
import re
import urllib.error
import urllib.parse
import urllib.request

# Never by a proxy of the environment.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


async def negotiate(peer, options: dict) -> str:
    """POSTs the offer of an aiortc peer, applies the answer, returns the session's URL.

    Options: endpoint; token; relay: the port to reach the server's candidates at instead of theirs."""
    from aiortc import RTCSessionDescription

    await peer.setLocalDescription(await peer.createOffer())
    headers = {"content-type": "application/sdp"}
    offer = peer.localDescription.sdp
    if "relay" in options:  # nor must the server find a way round it
        offer = re.sub(r"(?m)^a=candidate:.*\r\n", "", offer)
    status, answer, location = await request("POST", options["endpoint"], options.get("token"), headers, offer)
    if status != 201:
        raise RuntimeError(f"POST answered {status}: {answer}")
    if "relay" in options:
        answer = re.sub(r"(?m)^(a=candidate:\S+ \d+ udp \d+ \S+) \d+", rf"\1 {options['relay']}", answer, flags=re.I)
    await peer.setRemoteDescription(RTCSessionDescription(answer, "answer"))
    return urllib.parse.urljoin(options["endpoint"], location)


async def request(method: str, url: str, token: str | None = None, headers: dict = {}, body: str | None = None):
    """Status, body and Location of the answer."""
    headers = {**headers, **({"authorization": f"Bearer {token}"} if token else {})}

    def send():
        call = urllib.request.Request(url, body and body.encode(), headers, method=method)
        try:
            with _OPENER.open(call, timeout=10) as response:
                return response.status, response.read().decode(), response.headers.get("location")
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode(), None

    return await asyncio.to_thread(send)


async def connected(peer, limit: float = 15) -> None:
    """Waits until the peer is connected."""
    async with asyncio.timeout(limit):
        while peer.connectionState != "connected":
            if peer.connectionState == "failed":
                raise RuntimeError("the connection failed")
            await asyncio.sleep(0.01)
