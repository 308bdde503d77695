"""``gizserial product``: check, show and compare product definitions."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import click

from gizserial.cli.group import FINDING, USAGE
from gizserial.cli.params import PRODUCT, json_option
from gizserial.cli.table import printable, table
from gizserial.errors import GizserialError

if TYPE_CHECKING:
    from gizserial.findings import Finding
    from gizserial.product import Product
    from gizserial.product_diff import Change
    from gizserial.product_table import PointRow


@click.group(epilog="\b\nExample:\n  gizserial product check pet-house.json")
def product() -> None:
    """Check, show and compare product definitions."""


@product.command(
    epilog="\b\nExamples:\n"
    "  gizserial product check pet-house.json\n"
    "  gizserial product check --json fixtures/products/*.json"
)
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@json_option
@click.pass_context
def check(ctx: click.Context, files: tuple[str, ...], *, as_json: bool) -> None:
    """Say what is wrong or unusual in product definitions.

    An error makes encoding or decoding impossible or ambiguous; with a warning the definition works, but
    differs from what the cloud usually exports. The exit status is 1 if there was an error, 2 if a file
    could not be read.
    """
    from gizserial.definition import check_definition
    from gizserial.io.products import read_product_file

    status = 0
    for file in files:
        try:
            data = read_product_file(file)
        except GizserialError as error:
            click.echo(f"gizserial: {error}", err=True)
            status = USAGE
            continue
        findings = check_definition(data)
        if any(finding.severity == "error" for finding in findings):
            status = max(status, FINDING)
        for finding in findings:
            click.echo(_finding_json(file, finding) if as_json else _finding_text(file, finding))
        if not findings and not as_json:
            click.echo(f"{printable(file)}: no errors, no warnings")
    ctx.exit(status)


def _finding_json(file: str, finding: Finding) -> str:
    return _json(
        {
            "file": file,
            "path": finding.path,
            "severity": finding.severity,
            "message": finding.message,
            "remedy": finding.remedy,
        }
    )


def _finding_text(file: str, finding: Finding) -> str:
    colour = {"error": "red", "warning": "yellow"}[finding.severity]
    severity = click.style(finding.severity, fg=colour)
    return f"{printable(file)}: {finding.path}: {severity}: {finding.message}\n    {finding.remedy}"


@product.command(epilog="\b\nExample:\n  gizserial product show pet-house.json")
@click.argument("definition", type=PRODUCT, metavar="FILE")
@json_option
def show(definition: Product, *, as_json: bool) -> None:
    """Print the layout table: where each data point stands, and its range in real and raw units.

    Bytes are counted from the start of the status, bits from the lowest. A flag is the point's bit in the
    flags of a control (standard) or of every frame (var_len).
    """
    from gizserial.product_table import layout_table

    rows = layout_table(definition)
    if as_json:
        for row in rows:
            click.echo(_row_json(row))
        return
    click.echo(_summary(definition))
    if rows:
        click.echo()
        fixed = bool(definition.sections) or any(row.position for row in rows)
        click.echo("\n".join(_table(rows, with_position=fixed)))


def _summary(definition: Product) -> str:
    from gizserial.product import Layout

    fixed = definition.layout is Layout.FIXED
    sizes = [f"flags {definition.flag_bytes}"]
    if fixed:
        sizes += [f"values of a control {definition.writable_size}", f"status {definition.status_size}"]
    else:
        sizes += [f"all values {definition.status_size}"]
    key = definition.product_key
    lines = [
        f"{printable(definition.name)} ({definition.layout.value}, key {printable(key[:8])}…)",
        f"{len(definition.points)} data points, {len(definition.writable)} of them writable",
        f"bytes: {', '.join(sizes)}",
    ]
    return "\n".join(lines)


def _table(rows: list[PointRow], *, with_position: bool) -> list[str]:
    header = ["id", "flag", "name", "type", "access", "length", "position", "values", "raw", "display name"]
    cells = [
        [
            str(row.point.id),
            "" if row.flag is None else str(row.flag),
            row.point.name,
            row.point.data_type.value,
            row.point.access.value.removeprefix("status_"),
            row.length,
            row.position,
            row.values,
            row.raw_values,
            row.point.display_name,
        ]
        for row in rows
    ]
    if not with_position:
        at = header.index("position")
        header, *cells = ([*line[:at], *line[at + 1 :]] for line in (header, *cells))
    return table(header, cells, right=(0, 1))


def _row_json(row: PointRow) -> str:
    point = row.point
    members: dict[str, Any] = {
        "id": point.id,
        "name": point.name,
        "display_name": point.display_name,
        "desc": point.desc,
        "data_type": point.data_type.value,
        "type": point.access.value,
        "flag": row.flag,
        "width": point.width if point.is_bits else None,
        "size": None if point.is_bits else point.size,
        "bytes": row.bytes,
        "bits": row.bits,
        "enum": point.texts or None,
    }
    if point.scale is not None:
        low, high = point.scale.real_range
        members |= {
            "min": _number(low),
            "max": _number(high),
            "raw_min": point.scale.raw_min,
            "raw_max": point.scale.raw_max,
            "ratio": _number(point.scale.ratio),
            "addition": _number(point.scale.addition),
        }
    return _json({name: value for name, value in members.items() if value is not None})


def _number(value: Decimal) -> int | float:
    return int(value) if value == value.to_integral_value() else float(value)


@product.command(epilog="\b\nExample:\n  gizserial product diff released.json edited.json")
@click.argument("old", type=PRODUCT, metavar="OLD")
@click.argument("new", type=PRODUCT, metavar="NEW")
@json_option
@click.pass_context
def diff(ctx: click.Context, old: Product, new: Product, *, as_json: bool) -> None:
    """Say what changed on the wire, and whether firmware and apps made with OLD break.

    The exit status is 1 if deployed firmware or apps break.
    """
    from gizserial.product_diff import Effect, worst
    from gizserial.product_diff import diff as differences

    changes = differences(old, new)
    firmware = worst(change.firmware for change in changes)
    apps = worst(change.apps for change in changes)
    for change in changes:
        click.echo(_change_json(change) if as_json else _change_text(change))
    if not as_json:
        click.echo(f"deployed firmware: {_EFFECTS[firmware.value]}")
        click.echo(f"deployed apps: {_EFFECTS[apps.value]}")
    if Effect.BREAKS in {firmware, apps}:
        ctx.exit(FINDING)


_EFFECTS = {
    "fine": "goes on working",
    "check": "may need a change, see above",
    "breaks": "breaks, see above",
}


def _change_json(change: Change) -> str:
    return _json(
        {
            "point": change.point,
            "change": change.kind,
            "old": change.old,
            "new": change.new,
            "wire": change.wire,
            "firmware": change.firmware.value,
            "apps": change.apps.value,
            "reason": change.reason,
        }
    )


def _change_text(change: Change) -> str:
    subject = change.point or "product"
    what = change.kind.replace("_", " ")
    if change.old and change.new:
        what += f": {change.old} -> {change.new}"
    else:
        what += f": {change.old or change.new}"
    effects = f"firmware: {change.firmware.value}, apps: {change.apps.value}"
    return printable(f"{subject}: {what}") + f"\n    {effects}; {change.reason}"


def _json(members: dict[str, Any]) -> str:
    return json.dumps(members, ensure_ascii=False, separators=(",", ":"))
