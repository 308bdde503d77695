"""Data point definitions: the JSON, and everything that can be wrong with it (serial.md §7, cli.md §6).

:func:`check_definition` finds all faults at once. An *error* makes encoding or decoding impossible or
ambiguous; a *warning* is something that real exports have and that works, but that surprises. Nothing is
guessed: what third-party copies leave out is an error that says what to add.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Any, ClassVar, Final, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from gizserial.findings import Finding
from gizserial.jsontext import Findings, child, is_unicode, kind, read_json
from gizserial.layout import UINT_SIZES, Access, DataType, Item, Layout, Place, enum_width
from gizserial.layout_check import Located, check_layout
from gizserial.scale import shown


def _is_unicode(text: str) -> str:
    if not is_unicode(text):
        raise ValueError("half of a character")
    return text


_Text = Annotated[str, AfterValidator(_is_unicode)]
_Model = TypeVar("_Model", bound="JsonObject")
_Value = TypeVar("_Value")


class JsonObject(BaseModel):
    """An object of a definition. A member that is missing or wrong is None, and there is a finding for it."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")
    required: ClassVar[tuple[str, ...]] = ()


class DefinitionObject(JsonObject):
    """The whole file."""

    required = ("name", "product_key", "packetVersion", "protocolType", "entities")

    name: _Text | None = Field(None, description="a text, the product's name")
    product_key: _Text | None = Field(None, description="a text of 32 hex digits")
    packetVersion: _Text | None = Field(None, description='the text "0x00000004"')  # noqa: N815 - its name in the file
    protocolType: _Text | None = Field(None, description='"standard" or "var_len"')  # noqa: N815 - as above
    entities: list[Any] | None = Field(None, description="a list with one object")


class EntityObject(JsonObject):
    """``entities[0]``, the only one."""

    required = ("id", "name", "attrs")

    id: int | None = Field(None, description="the number 0")
    name: _Text | None = Field(None, description='the text "entity0"')
    display_name: _Text | None = Field(None, description="a text")
    attrs: list[Any] | None = Field(None, description="the list of the data points")


class AttributeObject(JsonObject):
    """A data point."""

    required = ("id", "name", "data_type", "type")

    id: int | None = Field(None, description="a whole number, its order number from 0")
    name: _Text | None = Field(None, description="a text of letters, digits and underscores")
    display_name: _Text | None = Field(None, description="a text")
    desc: _Text | None = Field(None, description="a text")
    data_type: _Text | None = Field(None, description="bool, enum, uint8, uint16, uint32 or binary")
    type: _Text | None = Field(None, description="status_writable, status_readonly, alert or fault")
    # enum, uint_spec and position are read by data_type: where they mean nothing they may hold anything.


class UintSpecObject(JsonObject):
    """Range and scale of a number."""

    required = ("min", "max", "ratio", "addition")

    min: int | None = Field(None, description="a whole number, the smallest raw value")
    max: int | None = Field(None, description="a whole number, the largest raw value")
    ratio: Decimal | int | None = Field(None, description="a number, 1 if the value is not scaled")
    addition: Decimal | int | None = Field(None, description="a number, 0 if the value is not shifted")


class PositionObject(JsonObject):
    """Where a data point stands."""

    required = ("byte_offset", "bit_offset", "len", "unit")

    byte_offset: int | None = Field(None, description="a whole number of bytes")
    bit_offset: int | None = Field(None, description="a whole number of bits")
    len: int | None = Field(None, description="a whole number, the length in units")
    unit: _Text | None = Field(None, description='"bit" or "byte"')


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PointSpec:
    """A data point that has no errors."""

    id: int
    name: str
    display_name: str
    desc: str
    data_type: DataType
    access: Access
    texts: tuple[str, ...]
    ratio: Decimal
    addition: Decimal
    raw_min: int
    raw_max: int
    width: int
    size: int
    byte_offset: int
    bit_offset: int


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """A definition that has no errors, with resolved positions; points in the order of the file."""

    name: str
    display_name: str
    """Of the entity."""
    product_key: str
    layout: Layout
    points: tuple[PointSpec, ...]


PACKET_VERSION: Final = "0x00000004"
_KEY: Final = re.compile(r"[0-9A-Fa-f]{32}")
_KEY_WITH_SUFFIX: Final = re.compile(r"[0-9A-Fa-f]{32}[^0-9A-Fa-f].*", re.DOTALL)
_IDENTIFIER: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_LAYOUTS: Final = {layout.value: layout for layout in Layout}
_DATA_TYPES: Final = {data_type.value: data_type for data_type in DataType}
_ACCESSES: Final = {access.value: access for access in Access}
_ATTRS: Final = "$.entities[0].attrs"


def check_definition(data: bytes) -> list[Finding]:
    """Everything that is to be said of a definition file: errors and warnings.

    Never raises. An empty list: nothing to say.
    """
    return list(read_definition(data)[1])


def read_definition(data: bytes) -> tuple[Definition | None, list[Finding]]:
    """The definition, and what is to be said of it. None when there is an error among the findings."""
    findings = Findings()
    document = read_json(data, findings)
    definition = None if document is None else _definition(document, findings)
    return (None if findings.has_errors else definition), findings


def _definition(document: object, findings: Findings) -> Definition | None:
    top = _load(DefinitionObject, document, "$", findings)
    if top is None:
        return None
    layout = _one_of(_LAYOUTS, top.protocolType, "$.protocolType", findings)
    if top.packetVersion not in {None, PACKET_VERSION}:
        findings.warning(
            "$.packetVersion",
            f"the version is {shown(top.packetVersion)}, known is {PACKET_VERSION}",
            f"the definition is read as {PACKET_VERSION}; export it again if values come out wrong",
        )
    if top.product_key is not None:
        _check_key(top.product_key, findings)
    entity = _entity(top.entities, findings) if top.entities is not None else None
    if entity is None or entity.attrs is None:
        return None
    attrs = entity.attrs
    rows: list[_Row] = []
    for index, attribute in enumerate(attrs):
        path = f"{_ATTRS}[{index}]"
        point = _load(AttributeObject, attribute, path, findings)
        if point is not None:
            rows.append(_Reader(path, attribute, layout, findings).row(point))
        if findings.full:
            return None
    _check_repeated(rows, findings)
    places = check_layout([row.located for row in rows], layout, _ATTRS, findings)
    if findings.has_errors or layout is None or places is None:
        return None
    return Definition(
        name=top.name or "",
        display_name=entity.display_name or "",
        product_key=top.product_key or "",
        layout=layout,
        points=tuple(
            row.spec(item, place)
            for row, place in zip(rows, places, strict=True)
            if (item := row.located.item) is not None
        ),
    )


def _load(model: type[_Model], value: object, path: str, findings: Findings) -> _Model | None:
    """The object with the members that are right, and a finding for each of the others."""
    if not isinstance(value, Mapping):
        findings.error(path, f"must be an object, is {kind(value)}", "export the definition again")
        return None
    members = {key: value[key] for key in model.model_fields if key in value}
    for key in model.required:
        if key not in members:
            _report_missing(model, key, value, path, findings)
    # None stands for "missing" in the models; null in the file is a value of the wrong type.
    wrong = [key for key, member in members.items() if member is None]
    try:
        made = model.model_validate({key: members[key] for key in members if key not in wrong})
    except ValidationError as error:
        faulty = {str(fault["loc"][0]) for fault in error.errors(include_url=False, include_input=False)}
        wrong += faulty
        made = model.model_validate({key: members[key] for key in members if key not in wrong})
    for key, member in members.items():
        if key in wrong:
            description = model.model_fields[key].description
            message = f"must be {description}, is {kind(member)}"
            findings.error(child(path, key), message, f"write {description}")
    return made


def _report_missing(
    model: type[JsonObject], key: str, value: Mapping[str, object], path: str, findings: Findings
) -> None:
    where, plain = child(path, key), key.replace("_", "").lower()
    other = next((name for name in value if name.replace("_", "").lower() == plain), None)
    if other is not None:
        message = f"{key} is missing; there is {shown(other)}, which is not the same"
        findings.error(where, message, f"rename it to {key}")
    elif key == "entities" and "attrs" in value:
        message = "entities is missing; attrs stands at the top level"
        remedy = 'put attrs into "entities": [{"id": 0, "name": "entity0", "attrs": […]}]'
        findings.error(where, message, remedy)
    else:
        description = model.model_fields[key].description
        findings.error(where, f"{key} is missing", f"add it: {description}")


def _one_of(known: Mapping[str, _Value], text: str | None, path: str, findings: Findings) -> _Value | None:
    """What a word stands for; a finding when it is unknown. Missing words have their finding already."""
    if text is None or text in known:
        return None if text is None else known[text]
    findings.error(path, f"{shown(text)} is unknown", f"write one of: {', '.join(known)}")
    return None


def _check_key(product_key: str, findings: Findings) -> None:
    if _KEY.fullmatch(product_key):
        return
    path = "$.product_key"
    if _KEY_WITH_SUFFIX.fullmatch(product_key):
        findings.error(path, "after 32 hex digits there is a suffix", "remove what follows the 32 digits")
    else:
        message = f"the key is not 32 hex digits; it has {len(product_key)} characters"
        findings.warning(path, message, "take the key from the product's page; devices send 32 characters")


def _entity(entities: list[Any], findings: Findings) -> EntityObject | None:
    """The only entity, which has the data points."""
    if len(entities) != 1:
        message = f"there must be exactly one entity, there are {len(entities)}"
        path = "$.entities[1]" if entities else "$.entities"
        findings.error(path, message, "keep the one with the data points" if entities else "add it")
    if not entities:
        return None
    path = "$.entities[0]"
    entity = _load(EntityObject, entities[0], path, findings)
    if entity is None:
        return None
    if entity.id not in {None, 0}:
        findings.error(f"{path}.id", f"must be 0, is {shown(entity.id)}", "write 0")
    if entity.name not in {None, "entity0"}:
        findings.error(f"{path}.name", f"must be entity0, is {shown(entity.name)}", "write entity0")
    return entity


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """A data point as far as it is right."""

    path: str
    name: str | None
    display_name: str
    desc: str
    texts: tuple[str, ...]
    numbers: _Numbers
    located: Located

    def spec(self, item: Item, place: Place) -> PointSpec:
        """The data point, where there are no errors."""
        return PointSpec(
            id=item.id,
            name=self.name or "",
            display_name=self.display_name,
            desc=self.desc,
            data_type=item.data_type,
            access=item.access,
            texts=self.texts,
            ratio=self.numbers.ratio,
            addition=self.numbers.addition,
            raw_min=self.numbers.raw_min,
            raw_max=self.numbers.raw_max,
            width=item.width,
            size=item.size,
            byte_offset=place.byte_offset,
            bit_offset=place.bit_offset,
        )


@dataclasses.dataclass(frozen=True, slots=True)
class _Numbers:
    raw_min: int = 0
    raw_max: int = 0
    ratio: Decimal = Decimal(1)
    addition: Decimal = Decimal(0)


@dataclasses.dataclass(frozen=True, slots=True)
class _Reader:
    """Reads one data point.

    :ivar path: Its JSON path.
    :ivar value: The object in the file.
    """

    path: str
    value: Mapping[str, object]
    layout: Layout | None
    findings: Findings

    def error(self, member: str, message: str, remedy: str) -> None:
        self.findings.error(f"{self.path}.{member}", message, remedy)

    def warning(self, member: str, message: str, remedy: str) -> None:
        self.findings.warning(f"{self.path}.{member}", message, remedy)

    def row(self, attribute: AttributeObject) -> _Row:
        """The point as far as it is right, and a finding for everything else."""
        number, name = attribute.id, attribute.name
        if number is not None and number < 0:
            self.error("id", f"must not be negative, is {shown(number)}", "number the points from 0")
            number = None
        if name is not None and not _IDENTIFIER.fullmatch(name):
            remedy = "use letters a to z, digits and underscores, beginning with a letter"
            self.error("name", f"{shown(name)} is not an identifier", remedy)
        data_type = _one_of(_DATA_TYPES, attribute.data_type, f"{self.path}.data_type", self.findings)
        access = _one_of(_ACCESSES, attribute.type, f"{self.path}.type", self.findings)
        if access in {Access.ALERT, Access.FAULT} and data_type not in {None, DataType.BOOL}:
            message = f"{attribute.type} points are always bool, this is {attribute.data_type}"
            self.error("data_type", message, "make it bool, or a status_readonly point")
        texts = self._texts() if data_type is DataType.ENUM else ()
        position = self._position(data_type)
        length = position.len if position is not None else None
        if length is not None and data_type is not None:
            self._check_length(length, data_type, len(texts))
        width, size = self._extent(data_type, length, len(texts))
        return _Row(
            path=self.path,
            name=name,
            display_name=attribute.display_name or "",
            desc=attribute.desc or "",
            texts=texts,
            numbers=self._numbers(data_type),
            located=Located(
                path=self.path,
                id=number,
                access=access,
                data_type=data_type,
                width=width,
                size=size,
                given="position" in self.value,
                byte_offset=position.byte_offset if position is not None else None,
                bit_offset=position.bit_offset if position is not None else None,
                unit=position.unit if position is not None else None,
            ),
        )

    def _texts(self) -> tuple[str, ...]:
        """The texts of an enum; empty when there is an error."""
        if "enum" not in self.value:
            self.error("enum", "an enum needs its values", "add the list of its texts")
            return ()
        texts = self.value["enum"]
        if not isinstance(texts, list):
            self.error("enum", f"must be a list of texts, is {kind(texts)}", "write a list of texts")
            return ()
        if not texts:
            self.error("enum", "an enum needs at least one value", "list its texts")
        seen: dict[str, int] = {}
        right = True
        for index, text in enumerate(texts):
            if not isinstance(text, str) or not is_unicode(text):
                self.error(f"enum[{index}]", f"must be a text, is {kind(text)}", "write it in quotes")
                right = False
            elif text in seen:
                message = f"the text {shown(text)} is also that of value {seen[text]}"
                self.warning(f"enum[{index}]", message, "only the index tells them apart; give each a text")
            else:
                seen[text] = index
            if self.findings.full:
                return ()
        return tuple(texts) if right else ()

    def _numbers(self, data_type: DataType | None) -> _Numbers:
        size = UINT_SIZES.get(data_type) if data_type is not None else None
        if data_type is None or size is None:
            return _Numbers()
        largest = 256**size - 1
        if "uint_spec" not in self.value:
            message = f"uint_spec is missing: taken are 0 to {largest}, ratio 1, addition 0"
            remedy = f'add "uint_spec": {{"min": 0, "max": {largest}, "ratio": 1, "addition": 0}}'
            self.warning("uint_spec", message, remedy)
            return _Numbers(raw_max=largest)
        spec = _load(UintSpecObject, self.value["uint_spec"], f"{self.path}.uint_spec", self.findings)
        if spec is None:
            return _Numbers(raw_max=largest)
        for key, limit in (("min", spec.min), ("max", spec.max)):
            if limit is not None and not 0 <= limit <= largest:
                message = (
                    f"{key} is a raw value: {data_type.value} has 0 to {largest}, this is {shown(limit)}"
                )
                remedy = "write a raw value in that range; ratio and addition make the real one"
                self.error(f"uint_spec.{key}", message, remedy)
        if spec.min is not None and spec.max is not None and spec.min > spec.max:
            message = f"min {shown(spec.min)} is larger than max {shown(spec.max)}"
            self.error("uint_spec.min", message, "exchange them, or mend the wrong one")
        if spec.ratio is not None and spec.ratio == 0:
            self.error("uint_spec.ratio", "the ratio must not be 0", "write 1 if the value is not scaled")
        return _Numbers(
            raw_min=spec.min or 0,
            raw_max=largest if spec.max is None else spec.max,
            ratio=Decimal(spec.ratio or 1),
            addition=Decimal(spec.addition or 0),
        )

    def _position(self, data_type: DataType | None) -> PositionObject | None:
        if "position" in self.value:
            return _load(PositionObject, self.value["position"], f"{self.path}.position", self.findings)
        if data_type is DataType.BINARY:
            message = "a binary has no size of its own: it is the len of the position"
            self.error("position", message, "add a position with the number of bytes as len")
        return None

    def _extent(self, data_type: DataType | None, length: int | None, texts: int) -> tuple[int, int]:
        """Bits and bytes of the point; 0 0 while that is not known."""
        if data_type is None or data_type is DataType.BOOL:
            return (0 if data_type is None else 1), 0
        if data_type is DataType.BINARY:
            return 0, max(length or 0, 0)
        if data_type is not DataType.ENUM:
            return 0, UINT_SIZES[data_type]
        if not texts:
            return 0, 0
        # A wider len counts where positions do (R29); in var_len they mean nothing (§5.5).
        needed = enum_width(texts)
        return (needed if length is None or self.layout is Layout.VARIABLE else max(needed, length)), 0

    def _check_length(self, length: int, data_type: DataType, texts: int) -> None:
        if data_type is DataType.BINARY:
            if length < 1:
                message = f"a binary needs at least one byte, len is {shown(length)}"
                self.error("position.len", message, "write the number of its bytes")
        elif data_type is DataType.ENUM:
            needed = enum_width(texts)
            if length < needed:
                message = f"{texts or 'its'} values need {needed} bits, len is {shown(length)}"
                self.error("position.len", message, f"write {needed}, or export the definition again")
            elif texts and length > needed:
                message = f"{texts} values need only {needed} bits, len is {shown(length)}"
                taken = "nothing: positions do not count in var_len"
                if self.layout is not Layout.VARIABLE:
                    taken = f"check it against the firmware's definition; {shown(length)} bits are used"
                self.warning("position.len", message, taken)
        else:
            right = UINT_SIZES.get(data_type, 1)
            if length != right:
                message = f"the len of {data_type.value} is {right}, this is {shown(length)}"
                self.error("position.len", message, f"write {right}, or mend data_type")


def _check_repeated(rows: list[_Row], findings: Findings) -> None:
    ids: dict[int, str] = {}
    names: dict[str, str] = {}
    for row in rows:
        number, name = row.located.id, row.name
        if number is not None and ids.setdefault(number, row.path) != row.path:
            message = f"the id {shown(number)} is also that of {ids[number]}"
            findings.error(f"{row.path}.id", message, "give each point an id of its own: it is its flag bit")
        if name is not None and names.setdefault(name, row.path) != row.path:
            message = f"the name {shown(name)} is also that of {names[name]}"
            findings.error(f"{row.path}.name", message, "give each point a name of its own")
