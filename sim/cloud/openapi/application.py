"""Every call of the Open API, put into the cloud's HTTP application."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from starlette.exceptions import HTTPException

from sim.cloud.api_errors import ApiError, Code
from sim.cloud.app_side import AppSide
from sim.cloud.openapi.admin import admin_calls
from sim.cloud.openapi.aggregation import aggregation_calls
from sim.cloud.openapi.bindings import binding_calls
from sim.cloud.openapi.calls import Calls, error_answer
from sim.cloud.openapi.devices import device_calls
from sim.cloud.openapi.enterprise import enterprise_calls
from sim.cloud.openapi.firmware import firmware_calls
from sim.cloud.openapi.groups import group_calls
from sim.cloud.openapi.messages import message_calls
from sim.cloud.openapi.rules import rule_calls
from sim.cloud.openapi.scenes import scene_calls
from sim.cloud.openapi.schedulers import scheduler_calls
from sim.cloud.openapi.sharing import sharing_calls
from sim.cloud.openapi.system import system_calls
from sim.cloud.openapi.users import user_calls
from sim.cloud.outbox import CAPTCHA

GROUPS: Final[tuple[Callable[[AppSide], Calls], ...]] = (
    user_calls,
    binding_calls,
    device_calls,
    group_calls,
    sharing_calls,
    message_calls,
    scheduler_calls,
    scene_calls,
    rule_calls,
    aggregation_calls,
    enterprise_calls,
    system_calls,
)
"""In the order of the document; of two paths that fit, the earlier one counts."""


def add_open_api(app: FastAPI, side: AppSide) -> None:
    """Add the calls of apps to the application, and a page to read and try them."""
    _refuse_as_documented(app)
    app.add_api_route("/", _start, include_in_schema=False)
    app.add_api_route("/docs", _page, include_in_schema=False, response_class=HTMLResponse)
    app.add_api_route("/captcha/image/{number}", _captcha, include_in_schema=False)
    for group in (*GROUPS, *((admin_calls, firmware_calls) if side.config.admin else ())):
        app.include_router(group(side).router)


def _refuse_as_documented(app: FastAPI) -> None:
    """Unknown paths, wrong methods and faults are told as §4 writes them; modules have their own form."""
    handlers = dict(app.exception_handlers)

    async def refused(request: Request, error: Exception) -> Response:
        if isinstance(error, HTTPException):
            kind: type[Exception] = HTTPException
            text = {404: "not found", 405: "method not allowed"}.get(error.status_code)
            code = Code.FORM_INVALID if text is None else Code.RESERVED
            refusal = ApiError(code, status=error.status_code, message=text)
        else:
            kind, refusal = Exception, ApiError(Code.SERVER_ERROR)  # why is for the log, and not for a peer
        if request.url.path.startswith("/dev/"):
            told: Response = await handlers[kind](request, error)
            return told
        return error_answer(request, refusal)

    app.add_exception_handler(HTTPException, refused)
    app.add_exception_handler(Exception, refused)


async def _start() -> RedirectResponse:
    """Who opens the address of the cloud in a browser sees what it can do."""
    return RedirectResponse("/docs")


async def _page() -> HTMLResponse:
    """Of this machine alone: it loads nothing from anywhere else, and may not."""
    text = (Path(__file__).parent.parent / "pages" / "docs.html").read_text(encoding="utf-8")
    policy = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'"
    return HTMLResponse(text, headers={"Content-Security-Policy": policy})


async def _captcha(number: str) -> Response:
    """What every captcha shows (§6.7), whatever its number."""
    del number
    text = f'<text x="10" y="30" font-family="monospace" font-size="28">{CAPTCHA}</text>'
    image = f'<svg xmlns="http://www.w3.org/2000/svg" width="100" height="40">{text}</svg>'
    return Response(image, media_type="image/svg+xml")
