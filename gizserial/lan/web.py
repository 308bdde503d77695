"""The web form of a module in SoftAP mode: HTTP requests in, pages out, without I/O (lan.md §5).

::

    GET /                                            the form
    GET /web_config.cgi?ssid=<name>&pass=<password>  router data; the module leaves SoftAP soon after
"""

from __future__ import annotations

import dataclasses
from http import HTTPStatus
from typing import Final

from gizserial.lan.messages import SSID_MOST, RouterData

MAX_HEAD: Final = 1024
"""Bytes of a request that are looked at: the receive buffer of [V4]."""
LEAVE_TIME: Final = 0.5
"""Seconds from the answer to the end of SoftAP."""
PASSWORD_MOST: Final = 32
"""Here, other than in 0001, the limit of [V4] holds."""

_END: Final = b"\r\n\r\n"
_CONFIG: Final = "/web_config.cgi"
_PAGE: Final = (
    "<!DOCTYPE html>\n"
    '<html><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
    "<title>Router</title></head>\n<body>{}</body></html>\n"
)
_FORM: Final = (
    f'<form action="{_CONFIG}" method="get">'
    f'<p><label>Router (SSID) <input name="ssid" maxlength="{SSID_MOST}" required></label></p>'
    f'<p><label>Password <input name="pass" type="password" maxlength="{PASSWORD_MOST}"></label></p>'
    "<p><button>Connect</button></p></form>"
)


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """What a request is answered; the connection is closed after it."""

    data: bytes = dataclasses.field(repr=False)
    router: RouterData | None = None
    """What the request gave: to be taken :data:`LEAVE_TIME` later."""


def answer(head: bytes) -> Answer | None:
    """Answer what came on a connection so far; None while its head is not complete."""
    if len(head) > MAX_HEAD:
        return _page(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "The request is too long.")
    if _END not in head:
        return None
    method, _, rest = head.partition(b"\r\n")[0].decode("utf-8", "backslashreplace").partition(" ")
    target = rest.partition(" ")[0]
    path, _, query = target.partition("?")
    if method != "GET":
        return _page(HTTPStatus.NOT_IMPLEMENTED, "This is a form: GET it.")
    if path == "/":
        return _page(HTTPStatus.OK, _FORM)
    if path != _CONFIG:
        return _page(HTTPStatus.NOT_FOUND, "There is only the form, at <a href='/'>/</a>.")
    data = _router_data(query)
    if data is None:
        return _page(
            HTTPStatus.BAD_REQUEST,
            f"Not stored: ssid of 1 to {SSID_MOST} bytes and pass of at most {PASSWORD_MOST} are needed. "
            "<a href='/'>Again</a>",
        )
    return _page(HTTPStatus.OK, "Stored. The module leaves its access point and joins the router.", data)


def _router_data(query: str) -> RouterData | None:
    """What the form sends, as it stands: [V4] decodes no ``%20`` and no ``+``."""
    fields = dict(field.partition("=")[::2] for field in query.split("&"))
    data = RouterData(fields.get("ssid", ""), fields.get("pass", ""))
    return data if data.fits and len(data.password.encode()) <= PASSWORD_MOST else None


def _page(status: HTTPStatus, text: str, router: RouterData | None = None) -> Answer:
    body = _PAGE.format(text).encode()
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\n"
        "Content-Type: text/html; charset=utf-8\r\n"
        f"Content-Length: {len(body)}\r\n"
        "Connection: close\r\n\r\n"
    )
    return Answer(head.encode("ascii") + body, router)
