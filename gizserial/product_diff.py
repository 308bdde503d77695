"""What changed between two definitions of a product, and what that breaks in the field.

The question is always: the cloud has the *new* definition, what happens to devices and apps that were made
with the *old* one? Firmware has flags, positions and scales compiled in. Apps that get values by name from
the cloud depend on names, enum texts and units; apps that take the bytes apart themselves depend on the wire
too, which is why a change on the wire is at least to be looked at for them.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterable, Iterator

from gizserial.product import DataPoint, DataType, Layout, Product
from gizserial.product_table import PointRow, layout_table
from gizserial.scale import number_text


class Effect(enum.Enum):
    """What a change does to something that is deployed; the value is the word in the output."""

    NONE = "fine"
    CHECK = "check"
    """It depends on how it is written."""
    BREAKS = "breaks"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One difference.

    :ivar point: The data point, by its old name unless it is new; None for the whole product.
    :ivar kind: ``product_key``, ``layout``, ``flags``, ``control_size``, ``status_size``, ``added``,
        ``removed``, ``renamed``, ``flag``, ``position``, ``type``, ``access``, ``scale``, ``range`` or
        ``texts``.
    :ivar wire: The same state gives other bytes.
    """

    point: str | None
    kind: str
    old: str
    new: str
    wire: bool
    firmware: Effect
    apps: Effect
    reason: str


def diff(old: Product, new: Product) -> list[Change]:
    """Every difference that matters on the wire or to apps: first the product's, then by data point."""
    changes = list(_product_changes(old, new))
    pairs, removed, added = _matched(old, new)
    for before, after in pairs:
        changes += _point_changes(before, after, old, new)
    changes += [_removed(row.point, old.layout) for row in removed]
    changes += [_added(row.point, new.layout) for row in added]
    return changes


def worst(effects: Iterable[Effect]) -> Effect:
    """The worst of several effects."""
    order = list(Effect)
    return max(effects, key=order.index, default=Effect.NONE)


def _product_changes(old: Product, new: Product) -> Iterator[Change]:
    if old.product_key != new.product_key:
        yield Change(
            point=None,
            kind="product_key",
            old=_short(old.product_key),
            new=_short(new.product_key),
            wire=False,
            firmware=Effect.BREAKS,
            apps=Effect.BREAKS,
            reason="devices and apps in the field belong to the product of the old key",
        )
    if old.layout is not new.layout:
        yield _wire(
            None, "layout", old.layout.value, new.layout.value, "P0 has other actions and another body"
        )
        return
    if old.flag_bytes != new.flag_bytes:
        what = "control" if old.layout is Layout.FIXED else "control, report and read"
        reason = f"values begin at another byte of every {what}"
        yield _wire(None, "flags", _bytes(old.flag_bytes), _bytes(new.flag_bytes), reason)
    if old.layout is Layout.VARIABLE:
        return
    if old.writable_size != new.writable_size:
        reason = "controls have another length than the firmware expects"
        yield _wire(None, "control_size", _bytes(old.writable_size), _bytes(new.writable_size), reason)
    if old.status_size != new.status_size:
        grows = new.status_size > old.status_size
        yield _wire(
            None,
            "status_size",
            _bytes(old.status_size),
            _bytes(new.status_size),
            "reports of old firmware are too short"
            if grows
            else "the end of old firmware's reports is ignored",
            firmware=Effect.BREAKS if grows else Effect.CHECK,
        )


_Rows = list[PointRow]


def _matched(old: Product, new: Product) -> tuple[list[tuple[PointRow, PointRow]], _Rows, _Rows]:
    """Points of the same name; of the others, those of the same id and kind count as renamed."""
    before = {row.point.name: row for row in layout_table(old)}
    after = {row.point.name: row for row in layout_table(new)}
    loose = {row.point.id: row for name, row in after.items() if name not in before}
    pairs, removed = [], []
    for name, row in before.items():
        partner = after.get(name)
        if partner is None:
            same_id = loose.get(row.point.id)
            if same_id is not None and _alike(row.point, same_id.point):
                partner = loose.pop(row.point.id)
        if partner is None:
            removed.append(row)
        else:
            pairs.append((row, partner))
    return pairs, removed, list(loose.values())


def _alike(one: DataPoint, other: DataPoint) -> bool:
    return (_family(one), one.access) == (_family(other), other.access)


def _point_changes(before: PointRow, after: PointRow, old: Product, new: Product) -> Iterator[Change]:
    one, two = before.point, after.point
    name = one.name
    if one.name != two.name:
        yield Change(
            point=name,
            kind="renamed",
            old=one.name,
            new=two.name,
            wire=False,
            firmware=Effect.NONE,
            apps=Effect.BREAKS,
            reason="names do not travel on the line, but apps use them",
        )
    if old.layout is new.layout:
        if before.flag != after.flag and before.flag is not None and after.flag is not None:
            reason = "firmware takes the flag for another point's"
            yield _wire(name, "flag", f"bit {before.flag}", f"bit {after.flag}", reason)
        if before.position != after.position:
            reason = "firmware has the value at the old place"
            yield _wire(name, "position", before.position, after.position, reason)
    if (one.data_type, before.length) != (two.data_type, after.length):
        yield _wire(
            name,
            "type",
            f"{one.data_type.value}, {before.length}",
            f"{two.data_type.value}, {after.length}",
            "the value has another length or meaning",
            apps=Effect.CHECK if _family(one) == _family(two) else Effect.BREAKS,
        )
    if one.access is not two.access:
        yield _access(one, two)
    yield from _scale(one, two)
    if one.texts != two.texts and one.data_type is two.data_type:
        yield _texts(one, two)


def _access(one: DataPoint, two: DataPoint) -> Change:
    firmware, apps, reason = Effect.NONE, Effect.CHECK, "it is shown in another place"
    if one.writable:
        firmware, apps, reason = Effect.CHECK, Effect.BREAKS, "it can no longer be controlled"
    elif two.writable:
        firmware, apps, reason = Effect.BREAKS, Effect.NONE, "firmware does not take controls of it"
    return Change(
        point=one.name,
        kind="access",
        old=one.access.value,
        new=two.access.value,
        wire=False,
        firmware=firmware,
        apps=apps,
        reason=reason,
    )


def _scale(one: DataPoint, two: DataPoint) -> Iterator[Change]:
    if one.scale is None or two.scale is None:
        return
    old, new = one.scale, two.scale
    if (old.ratio, old.addition) != (new.ratio, new.addition):
        yield Change(
            point=one.name,
            kind="scale",
            old=f"ratio {number_text(old.ratio)}, addition {number_text(old.addition)}",
            new=f"ratio {number_text(new.ratio)}, addition {number_text(new.addition)}",
            wire=True,
            firmware=Effect.BREAKS,
            apps=Effect.CHECK,
            reason="firmware converts with the old scale, so values come out wrong",
        )
    if (old.raw_min, old.raw_max) != (new.raw_min, new.raw_max):
        narrower = new.raw_min > old.raw_min or new.raw_max < old.raw_max
        wider = new.raw_min < old.raw_min or new.raw_max > old.raw_max
        reasons = ["firmware may get values that it does not know"] if wider else []
        reasons += ["values that were allowed are refused"] if narrower else []
        yield Change(
            point=one.name,
            kind="range",
            old=f"raw {old.raw_min} to {old.raw_max}",
            new=f"raw {new.raw_min} to {new.raw_max}",
            wire=False,
            firmware=Effect.CHECK,
            apps=Effect.CHECK if narrower else Effect.NONE,
            reason="; ".join(reasons),
        )


def _texts(one: DataPoint, two: DataPoint) -> Change:
    common = min(len(one.texts), len(two.texts))
    firmware, apps, reason = Effect.CHECK, Effect.NONE, "firmware may get an index that it does not know"
    if one.texts[:common] != two.texts[:common]:
        moved = any(
            text in two.texts and two.texts[index] != text for index, text in enumerate(one.texts[:common])
        )
        firmware, apps = (Effect.BREAKS if moved else Effect.CHECK), Effect.BREAKS
        reason = "an index means something else" if moved else "apps that compare texts do not find them"
    elif len(two.texts) < len(one.texts):
        apps, reason = Effect.BREAKS, "values that were allowed are gone"
    return Change(
        point=one.name,
        kind="texts",
        old=", ".join(one.texts),
        new=", ".join(two.texts),
        wire=firmware is Effect.BREAKS,
        firmware=firmware,
        apps=apps,
        reason=reason,
    )


def _removed(point: DataPoint, layout: Layout) -> Change:
    reported = layout is Layout.VARIABLE
    return Change(
        point=point.name,
        kind="removed",
        old=f"{point.data_type.value}, {point.access.value}, id {point.id}",
        new="",
        wire=reported,
        firmware=Effect.BREAKS if reported else Effect.NONE,
        apps=Effect.BREAKS,
        reason="old firmware still reports it, and what follows cannot be told apart"
        if reported
        else "apps use it; what the firmware has there is ignored, unless other points moved",
    )


def _added(point: DataPoint, layout: Layout) -> Change:
    ignored = layout is Layout.FIXED and "read as 0 from old firmware, unless other points moved"
    return Change(
        point=point.name,
        kind="added",
        old="",
        new=f"{point.data_type.value}, {point.access.value}, id {point.id}",
        wire=point.writable,
        firmware=Effect.CHECK if point.writable else Effect.NONE,
        apps=Effect.NONE,
        reason="old firmware gets controls of a point that it does not know"
        if point.writable
        else (ignored or "old firmware does not report it"),
    )


def _wire(
    point: str | None,
    kind: str,
    old: str,
    new: str,
    reason: str,
    *,
    firmware: Effect = Effect.BREAKS,
    apps: Effect = Effect.CHECK,
) -> Change:
    return Change(
        point=point, kind=kind, old=old, new=new, wire=True, firmware=firmware, apps=apps, reason=reason
    )


def _family(point: DataPoint) -> DataType | None:
    """None for numbers, whose size apps do not see."""
    return None if point.scale is not None else point.data_type


def _short(product_key: str) -> str:
    return product_key if len(product_key) <= 8 else f"{product_key[:8]}…"


def _bytes(count: int) -> str:
    return f"{count} byte{'' if count == 1 else 's'}"
