"""TLS handshakes in memory, with a client that verifies as strictly as it can."""

from __future__ import annotations

import ssl


def strict_client(ca_pem: bytes | None) -> ssl.SSLContext:
    """A client as the standard library makes it, with what Python 3.13 added."""
    context = ssl.create_default_context(cadata=(ca_pem or b"").decode() or None)
    context.verify_flags |= ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


def shake(server: ssl.SSLContext, client: ssl.SSLContext, name: str) -> ssl.SSLObject:
    """The client's end after a whole handshake.

    :raises ssl.SSLError: one of both refuses.
    """
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    near = client.wrap_bio(down, up, server_hostname=name)
    far = server.wrap_bio(up, down, server_side=True)
    waiting = [near, far]
    for _ in range(8):
        for end in list(waiting):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            waiting.remove(end)
    assert not waiting, "the handshake comes to no end"
    return near
