"""Linkage rules (open-api.md §15)."""

from __future__ import annotations

from typing import Any, Final

from sim.cloud.api_errors import ApiError, Code
from sim.cloud.app_side import AppSide
from sim.cloud.commands import checked_command
from sim.cloud.linkage import DevCtrl, Rule, params
from sim.cloud.openapi.calls import Call, Calls, Form, Page
from sim.cloud.openapi.records import moment
from sim.cloud.rules import KeptRule

MAX_RULES: Final = 100
"""Rules of one user."""
MAX_LISTED: Final = 100


class ProductKeys(Form):
    """Query of ``GET /app/rules/params``: keys with commas between; none is all that the app may use."""

    product_key: str = ""


class RuleBody(Rule, Form):
    """Body of ``POST`` and ``PUT``."""


_ERRORS: Final = (Code.DEVICE_NOT_FOUND, Code.NOT_BOUND, Code.ATTR_INVALID)


def rule_calls(side: AppSide) -> Calls:
    """The calls of §15."""
    calls = Calls(side, "Rules")
    calls.add("GET", "/app/rules/params", list_params, query=ProductKeys)
    calls.add("GET", "/app/rules", list_rules, query=Page)
    calls.add("POST", "/app/rules", create, body=RuleBody, status=201, errors=_ERRORS)
    # There is no code for an unknown rule in the table: the one of unknown schedulers is the nearest.
    calls.add(
        "PUT", "/app/rules/{rule_id}", change, body=RuleBody, errors=(*_ERRORS, Code.SCHEDULER_NOT_FOUND)
    )
    calls.add("DELETE", "/app/rules/{rule_id}", delete, errors=(Code.SCHEDULER_NOT_FOUND,))
    return calls


def list_params(call: Call) -> Any:
    """What rules of these products may name; products that are not known are left out."""
    keys = [key.strip() for key in call.query(ProductKeys).product_key.split(",", MAX_LISTED) if key.strip()]
    known = [call.side.cloud_product(key) for key in keys] if keys else list(call.side.products)
    return {
        product.product_key: params(product.product)
        for product in known
        if product is not None and product.product is not None and call.app.may_use(product.product_key)
    }


def list_rules(call: Call) -> Any:
    """The user's rules."""
    page = call.query(Page)
    rules = call.side.rules.of_user(call.user.uid)[page.start : page.start + page.size]
    return {
        "rules": [
            {
                "rule_id": kept.id,
                "created_at": moment(kept.created),
                "updated_at": moment(kept.updated),
                **kept.rule.model_dump(mode="json"),
            }
            for kept in rules
        ]
    }


def create(call: Call) -> Any:
    """Make a rule."""
    if len(call.side.rules.of_user(call.user.uid)) >= MAX_RULES:
        raise ApiError(Code.FORM_INVALID, f"a user has at most {MAX_RULES} rules")
    return {"rule_id": call.side.rules.put(call.user.uid, call.app.appid, _checked(call))}


def change(call: Call) -> Any:
    """Put another rule in the place of one."""
    kept = _found(call)
    return {"rule_id": call.side.rules.put(call.user.uid, call.app.appid, _checked(call), kept.id)}


def delete(call: Call) -> Any:
    """Forget a rule."""
    kept = _found(call)
    call.side.rules.remove(kept.id)
    return {"rule_id": kept.id}


def _found(call: Call) -> KeptRule:
    text = call.path("rule_id")
    number = int(text) if text.isascii() and text.isdigit() and len(text) <= 15 else 0
    kept = call.side.rules.get(call.user.uid, number)
    if kept is None:
        raise ApiError(Code.SCHEDULER_NOT_FOUND, message="rule not found!")
    return kept


def _checked(call: Call) -> Rule:
    """The rule of the body: every device in it is the user's, every command can be sent.

    :raises ApiError: 9015 a condition names a prefix that is no input's, 9025 a data point that there is not.
    """
    form = call.body(RuleBody)
    inputs = {named.prefix: named.did for named in form.input}
    for prefix, name in form.named_points():
        if prefix not in inputs:
            raise ApiError(Code.FORM_INVALID, f"condition: {prefix}.{name}: no input has this prefix")
    for did in (form.did, *(named.did for named in form.input)):
        call.side.bound(call.user, did)
    if form.event_attr is not None:
        _check_point(call, form.did, form.event_attr.attr_name)
    for prefix, name in form.named_points():
        _check_point(call, inputs[prefix], name)
    for step in (step for steps in form.output for step in steps):
        if isinstance(step, DevCtrl):
            device, _ = call.side.bound(call.user, step.did)
            checked_command(call.side, device.product_key, step.model_dump())
    return Rule.model_validate(form.model_dump())


def _check_point(call: Call, did: str, name: str) -> None:
    """Where the data points of the device's product are known, this is one of them."""
    product = call.side.product(call.side.device(did).product_key)
    if product is not None and name not in product.by_name:
        raise ApiError(Code.ATTR_INVALID, f"{name}: the product has no such data point")
