"""Paging style B: a page with its place among all records (open-api.md §5)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import urlencode

from fastapi import Request

from sim.cloud.openapi.calls import Page


def style_b(
    request: Request, page: Page, records: Sequence[Any], *, total: int | None = None
) -> dict[str, Any]:
    """A page of records.

    :param records: All of them; or the page itself, when ``total`` is given.
    :param total: How many there are.
    """
    shown = records if total is not None else records[page.start : page.start + page.size]
    count = len(records) if total is None else total
    after, before = page.start + page.size, page.start - page.size
    return {
        "meta": {
            "total": count,
            "limit": page.size,
            "skip": page.start,
            "previous": _link(request, page, max(0, before)) if page.start > 0 else None,
            "next": _link(request, page, after) if after < count else None,
        },
        "objects": list(shown),
    }


def _link(request: Request, page: Page, skip: int) -> str:
    query = dict(request.query_params) | {"limit": str(page.size), "skip": str(skip)}
    return f"{request.url.path}?{urlencode(query)}"
