"""The YAML file of ``gizsim cloud --config`` (cli.md §5), checked with line and column.

``examples/cloud.yaml`` shows and explains every member; ``gizsim cloud --example-config`` prints it.
Ids, keys and secrets that are not given are made up when the cloud starts (:mod:`sim.cloud.setup`).
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

import yaml

from gizserial.errors import GizserialError
from gizserial.io.products import load_product
from gizserial.m2m.firmware import MAX_FIRMWARE
from gizserial.m2m.secure import CipherError
from sim.cloud.config import AppConfig, FirmwareConfig, UserConfig, WantedBinding
from sim.cloud.errors import ConfigError
from sim.cloud.firmware import KINDS, check_image
from sim.cloud.products import CloudProduct, Credential

MAX_SIZE: Final = 1024 * 1024

_TOP: Final = ("products", "apps", "users", "firmware", "settings")
_PRODUCT: Final = (
    "definition", "product_key", "product_secret", "encrypted", "shared", "snoti", "enterprise",
)  # fmt: skip
_APP: Final = ("appid", "appsecret", "products")
_KINDS: Final[tuple[Literal["username", "email", "phone"], ...]] = ("username", "email", "phone")
_USER: Final = (*_KINDS, "password", "bind")
_BIND: Final = ("product_key", "mac", "remark", "dev_alias")
_FIRMWARE: Final = ("file", "product_key", "type", "soft_version", "push", "small")
_SETTINGS: Final = (
    "token_days", "history_days", "accept_any_appid", "fixed_code", "strong_passwords", "strict_products",
    "strict_raw", "ws_bool_as_int", "names", "country", "region", "city",
)  # fmt: skip
_HEX: Final = re.compile(r"[0-9A-Fa-f]+")
_NULL: Final = "tag:yaml.org,2002:null"
_Item = TypeVar("_Item")
Members = dict[str, yaml.Node]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a configuration file says."""

    products: tuple[CloudProduct, ...] = ()
    apps: tuple[AppConfig, ...] = ()
    users: tuple[UserConfig, ...] = ()
    firmware: tuple[FirmwareConfig, ...] = ()
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Members of :class:`~sim.cloud.config.CloudConfig`."""


def example_config() -> Path:
    """The commented example: installed beside this file, or in the source tree."""
    here = Path(__file__).resolve().parent
    installed = here / "examples" / "cloud.yaml"
    return installed if installed.exists() else here.parent.parent / "examples" / "cloud.yaml"


def load_config(path: Path) -> Settings:
    """Read a configuration file.

    :raises ConfigError: it cannot be read, or says something that is not understood.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_SIZE + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else None
        raise ConfigError(f"{path}: {reason or error}") from error
    if len(data) > MAX_SIZE:
        raise ConfigError(f"{path}: it is larger than {MAX_SIZE} bytes")
    try:
        node = yaml.compose(data.decode("utf-8-sig"), Loader=yaml.SafeLoader)
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: byte {error.start} is not UTF-8") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f", line {mark.line + 1}, column {mark.column + 1}" if mark is not None else ""
        raise ConfigError(f"{path}{where}: {error.problem or 'this is not YAML'}") from error
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigError(f"{path}: this is not YAML: {error}") from error
    return _File(path).settings(node) if node is not None else Settings()


class _File:
    def __init__(self, path: Path) -> None:
        self._path = path

    def settings(self, node: yaml.Node) -> Settings:
        members = self._members(node, _TOP)
        products = self._unique(
            members, "products", self._product, lambda product: product.product_key, "this product key"
        )
        apps = self._unique(members, "apps", self._app, lambda app: app.appid, "this appid")
        users = self._unique(members, "users", self._user, lambda user: user.name.lower(), "this user")
        firmware = self._unique(
            members,
            "firmware",
            self._firmware,
            lambda image: f"{image.product_key} {image.type} {image.soft_version}",
            "this version",
        )
        return Settings(
            products=products, apps=apps, users=users, firmware=firmware, options=self._options(members)
        )

    # --- the parts

    def _product(self, node: yaml.Node) -> CloudProduct:
        members = self._members(node, _PRODUCT)
        definition = None
        key = self._text(members, "product_key", 64)
        if "definition" in members:
            name = self._text(members, "definition") or ""
            try:
                definition = load_product(self._path.parent / name)
            except GizserialError as error:
                raise self._fault(members["definition"], str(error)) from error
            own = definition.product_key
            if key is not None and own and key.lower() != own.lower():
                raise self._fault(members["product_key"], "the definition has another product_key")
            key = own or key
        if not key:
            raise self._fault(node, "a product needs its definition or its product_key")
        secret = self._text(members, "product_secret")
        encrypted = self._truth(members, "encrypted")
        if encrypted and secret is None:
            raise self._fault(node, "an encrypted product needs its product_secret")
        enterprise = None
        if "enterprise" in members:
            enterprise = self._credential(members["enterprise"], "id", "secret")
        try:
            return CloudProduct(
                product_key=key,
                secret=secret,
                make_secret=secret is None,
                encrypted=encrypted,
                product=definition,
                shared=self._truth(members, "shared"),
                credentials=self._listed(
                    members, "snoti", lambda item: self._credential(item, "auth_id", "auth_secret")
                ),
                enterprise=enterprise,
            )
        except (GizserialError, CipherError) as error:
            raise self._fault(node, str(error)) from error

    def _credential(self, node: yaml.Node, name: str, secret: str) -> Credential:
        """An id and its secret; what is empty is made up later."""
        members = self._members(node, (name, secret))
        return Credential(self._text(members, name, 64) or "", self._text(members, secret, 64) or "")

    def _app(self, node: yaml.Node) -> AppConfig:
        members = self._members(node, _APP)
        listed = members.get("products")
        products = None
        if listed is not None and not (isinstance(listed, yaml.ScalarNode) and listed.value == "all"):
            products = self._listed(members, "products", lambda item: self._key(item, "a product key"))
        return AppConfig(
            appid=self._text(members, "appid", 64),
            appsecret=self._text(members, "appsecret", 64),
            products=products,
        )

    def _user(self, node: yaml.Node) -> UserConfig:
        members = self._members(node, _USER)
        named = [kind for kind in _KINDS if kind in members]
        if len(named) != 1:
            raise self._fault(node, "a user needs one of username, email and phone")
        name = self._text(members, named[0], 256)
        if name is None:
            raise self._fault(members[named[0]], f"{named[0]} is a text")
        return UserConfig(
            kind=named[0],
            name=name,
            password=self._text(members, "password", 256),
            bind=self._listed(members, "bind", self._wanted),
        )

    def _wanted(self, node: yaml.Node) -> WantedBinding:
        members = self._members(node, _BIND)
        mac = self._text(members, "mac", 32)
        if "product_key" not in members or mac is None:
            raise self._fault(node, "a device to bind needs its product_key and its mac")
        return WantedBinding(
            product_key=self._key(members["product_key"], "product_key"),
            mac=mac,
            remark=self._text(members, "remark", 1024) or "",
            dev_alias=self._text(members, "dev_alias", 1024) or "",
        )

    def _firmware(self, node: yaml.Node) -> FirmwareConfig:
        members = self._members(node, _FIRMWARE)
        for name in ("file", "product_key", "soft_version"):
            if name not in members:
                raise self._fault(node, f"an image needs its {name}")
        path = self._path.parent / self._word(members["file"], "file", 4096)
        try:
            with path.open("rb") as file:
                content = file.read(MAX_FIRMWARE + 1)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else None
            raise self._fault(members["file"], f"{path}: {reason or error}") from error
        kind = self._text(members, "type") or "mcu"
        if kind not in KINDS.values():
            raise self._fault(members["type"], "type is module or mcu")
        image = FirmwareConfig(
            product_key=self._key(members["product_key"], "product_key"),
            soft_version=self._word(members["soft_version"], "soft_version", 8),
            name=path.name,
            content=content,
            type=next(number for number, name in KINDS.items() if name == kind),
            push=self._truth(members, "push"),
            small=self._truth(members, "small"),
        )
        try:
            check_image(content, image.type, image.soft_version, image.name, small=image.small)
        except GizserialError as error:
            raise self._fault(node, f"{path}: {error}") from error
        return image

    def _options(self, top: Members) -> dict[str, Any]:
        if "settings" not in top:
            return {}
        members = self._members(top["settings"], _SETTINGS)
        options: dict[str, Any] = {
            name: self._truth(members, name)
            for name in (
                "accept_any_appid",
                "strong_passwords",
                "strict_products",
                "strict_raw",
                "ws_bool_as_int",
            )
            if name in members
        }
        for name, member in (("token_days", "token_time"), ("history_days", "history_time")):
            if name in members:
                options[member] = self._days(members[name], name)
        if "fixed_code" in members:
            options["fixed_code"] = self._word(members["fixed_code"], "fixed_code", 32)
        for name in ("country", "region", "city"):
            if name in members:
                options[name] = self._word(members[name], name)
        if "names" in members:
            options["names"] = self._listed(members, "names", lambda item: self._word(item, "a name"))
        return options

    # --- what they are made of

    def _fault(self, node: yaml.Node, text: str) -> ConfigError:
        mark = node.start_mark
        return ConfigError(f"{self._path}, line {mark.line + 1}, column {mark.column + 1}: {text}")

    def _members(self, node: yaml.Node, known: tuple[str, ...]) -> Members:
        if not isinstance(node, yaml.MappingNode):
            raise self._fault(node, f"a mapping with {', '.join(known)} is needed here")
        members: Members = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise self._fault(key, f"a name is needed here; known are: {', '.join(known)}")
            if key.value not in known:
                raise self._fault(key, f"{key.value!r} is not known here; known are: {', '.join(known)}")
            if key.value in members:
                raise self._fault(key, f"{key.value!r} stands here twice")
            members[key.value] = value
        # A member with nothing behind its colon is one that is not given.
        return {name: value for name, value in members.items() if value.tag != _NULL}

    def _listed(self, members: Members, name: str, read: Callable[[yaml.Node], _Item]) -> tuple[_Item, ...]:
        node = members.get(name)
        if node is None:
            return ()
        if not isinstance(node, yaml.SequenceNode):
            raise self._fault(node, f"{name} is a list")
        return tuple(read(item) for item in node.value)

    def _unique(
        self,
        members: Members,
        name: str,
        read: Callable[[yaml.Node], _Item],
        key: Callable[[_Item], str | None],
        what: str,
    ) -> tuple[_Item, ...]:
        seen: set[str] = set()

        def once(node: yaml.Node) -> _Item:
            item = read(node)
            own = key(item)
            if own is not None:
                if own in seen:
                    raise self._fault(node, f"{what} stands here twice")
                seen.add(own)
            return item

        return self._listed(members, name, once)

    def _text(self, members: Members, name: str, limit: int = 4096) -> str | None:
        return None if name not in members else self._word(members[name], name, limit)

    def _word(self, node: yaml.Node, name: str, limit: int = 256) -> str:
        # Digits only is a text here: a key or secret of 32 digits is no number.
        if not isinstance(node, yaml.ScalarNode) or not node.value:
            raise self._fault(node, f"{name} is a text")
        text = str(node.value)
        if len(text) > limit or not text.isprintable() or text != text.strip():
            raise self._fault(
                node, f"{name} has at most {limit} printable characters and no blank at either end"
            )
        return text

    def _key(self, node: yaml.Node, name: str) -> str:
        """A product key, as products have it: hexadecimal ones in lower case."""
        key = self._word(node, name, 64)
        return key.lower() if _HEX.fullmatch(key) else key

    def _truth(self, members: Members, name: str) -> bool:
        node = members.get(name)
        if node is None:
            return False
        if not isinstance(node, yaml.ScalarNode) or node.value.lower() not in {"true", "false"}:
            raise self._fault(node, f"{name} is true or false")
        return bool(node.value.lower() == "true")

    def _days(self, node: yaml.Node, name: str) -> float:
        """A number of days, in seconds."""
        try:
            days = float(node.value) if isinstance(node, yaml.ScalarNode) else 0.0
        except ValueError:
            days = 0.0
        if not 0 < days <= 36500:
            raise self._fault(node, f"{name} is a number of days, more than 0 and at most 36500")
        return days * 86400.0
