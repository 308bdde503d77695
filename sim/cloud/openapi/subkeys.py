"""The queues of SNoti over HTTP: which there are, and how one is deleted (snoti.md §7).

The real service has these two calls on a port of their own (2018); here they are on the cloud's HTTP port.
Whoever may log in at SNoti may call: HTTP Basic with ``auth_id`` and ``auth_secret`` of the product.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from typing import Any, Final

import pydantic
from fastapi import Request

from sim.cloud.api_errors import ENTERPRISE_ERRORS, ApiError, EnterpriseError
from sim.cloud.app_side import AppSide
from sim.cloud.openapi.calls import Auth, Call, Calls, Form
from sim.cloud.openapi.enterprise import BASE
from sim.cloud.snoti_queue import SnotiQueues

_CREDENTIALS_WRONG: Final = 5009


class Named(Form):
    """Query that names a queue."""

    subkey: str = pydantic.Field(min_length=1, max_length=32)


def subkey_calls(side: AppSide, queues: SnotiQueues) -> Calls:
    """The two calls of §7."""
    calls = Calls(side, "SNoti")

    def allowed(request: Request) -> None:
        _check(side, request)

    def subkeys(call: Call) -> Any:
        """The subkeys of a product, the oldest first."""
        return {"subkeys": queues.subkeys(call.path("pk"))}

    def delete_subkey(call: Call) -> None:
        """Delete a queue and what waits in it; of one that is not there nothing is said."""
        queues.delete(call.path("pk"), call.query(Named).subkey)

    path = f"{BASE}/subkey"
    common: dict[str, Any] = {
        "auth": Auth.NONE,
        "guard": allowed,
        "errors": (5002, 5015),
        "answers": {401: "5009 the credentials are wrong"},
        "headers": {"Authorization": "Basic with auth_id and auth_secret"},
        "form_error": lambda error: EnterpriseError(5002, error.detail),
    }
    calls.add("GET", path, subkeys, **common)
    calls.add("DELETE", path, delete_subkey, query=Named, **common)
    return calls


def _check(side: AppSide, request: Request) -> None:
    """Check the credentials (:raises ApiError: 5015 unknown product, 5009 they are not)."""
    product = side.cloud_product(str(request.path_params["pk"]))
    if product is None:
        raise EnterpriseError(5015)
    given = _basic(request.headers.get("authorization", ""))
    known = [f"{each.id}:{each.secret}".encode() for each in product.credentials]
    if not any(hmac.compare_digest(each, given) for each in known):
        message = ENTERPRISE_ERRORS[_CREDENTIALS_WRONG].message
        raise ApiError(_CREDENTIALS_WRONG, "auth_id or auth_secret", status=401, message=message)


def _basic(header: str) -> bytes:
    """``id:secret`` of HTTP Basic; empty when it is none."""
    scheme, _, text = header.strip().partition(" ")
    if scheme.lower() != "basic":
        return b""
    try:
        return base64.b64decode(text.strip(), validate=True)
    except (ValueError, binascii.Error):
        return b""
