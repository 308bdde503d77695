"""The API about itself (open-api.md §17)."""

from __future__ import annotations

from typing import Any, Final

from sim.cloud.api_errors import ERRORS
from sim.cloud.app_side import AppSide
from sim.cloud.openapi.calls import Auth, Call, Calls

VERSION: Final = "2.15.1"
"""The version that the documentation prints; clients show it."""


def system_calls(side: AppSide) -> Calls:
    """The calls of §17."""
    calls = Calls(side, "System")
    calls.add("GET", "/status", status, auth=Auth.NONE)
    calls.add("GET", "/errors", errors, auth=Auth.NONE)
    return calls


def status(_call: Call) -> Any:
    """The version of the API."""
    return {"status": {"version": VERSION}}


def errors(_call: Call) -> Any:
    """Every error code."""
    return [
        {"status": spec.status, "error_code": code, "error_message": spec.message}
        for code, spec in ERRORS.items()
    ]
