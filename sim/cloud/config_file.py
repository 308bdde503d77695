"""The YAML file of ``gizsim cloud --config`` (cli.md §5), checked with line and column.

::

    products:
      - definition: pet-house.json      # product_key and data points, relative to this file
        product_secret: 0123...         # optional: its modules may register encrypted
        encrypted: true                 # optional: and not plainly
      - product_key: 0123...            # without a definition
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import yaml

from gizserial.errors import GizserialError
from gizserial.io.products import load_product
from gizserial.m2m.secure import CipherError
from sim.cloud.errors import ConfigError
from sim.cloud.products import CloudProduct

MAX_SIZE: Final = 1024 * 1024
_PRODUCT_MEMBERS: Final = ("definition", "product_key", "product_secret", "encrypted")


def load_config(path: Path) -> tuple[CloudProduct, ...]:
    """Read the products of a configuration file.

    :raises ConfigError: it cannot be read, or says something that is not understood.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from error
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
    return _File(path).products(node) if node is not None else ()


class _File:
    def __init__(self, path: Path) -> None:
        self._path = path

    def _fault(self, node: yaml.Node, text: str) -> ConfigError:
        mark = node.start_mark
        return ConfigError(f"{self._path}, line {mark.line + 1}, column {mark.column + 1}: {text}")

    def _members(self, node: yaml.Node, known: tuple[str, ...]) -> dict[str, yaml.Node]:
        if not isinstance(node, yaml.MappingNode):
            raise self._fault(node, f"a mapping with {', '.join(known)} is needed here")
        members: dict[str, yaml.Node] = {}
        for key, value in node.value:
            if key.value not in known:
                raise self._fault(key, f"{key.value!r} is not known here; known are: {', '.join(known)}")
            if key.value in members:
                raise self._fault(key, f"{key.value!r} stands here twice")
            members[key.value] = value
        return members

    def products(self, node: yaml.Node) -> tuple[CloudProduct, ...]:
        listed = self._members(node, ("products",)).get("products")
        if listed is None:
            return ()
        if not isinstance(listed, yaml.SequenceNode):
            raise self._fault(listed, "products is a list")
        products: dict[str, CloudProduct] = {}
        for item in listed.value:
            product = self._product(item)
            if product.product_key in products:
                raise self._fault(item, "this product key stands here twice")
            products[product.product_key] = product
        return tuple(products.values())

    def _product(self, node: yaml.Node) -> CloudProduct:
        members = self._members(node, _PRODUCT_MEMBERS)
        definition = None
        key = self._text(members, "product_key")
        if "definition" in members:
            name = self._text(members, "definition") or ""
            try:
                definition = load_product(self._path.parent / name)
            except GizserialError as error:
                raise self._fault(members["definition"], str(error)) from error
            if key is not None and key != definition.product_key:
                raise self._fault(members["product_key"], "the definition has another product_key")
            key = definition.product_key
        if not key:
            raise self._fault(node, "a product needs its definition or its product_key")
        secret = self._text(members, "product_secret")
        encrypted = self._truth(members, "encrypted")
        if encrypted and secret is None:
            raise self._fault(node, "an encrypted product needs its product_secret")
        try:
            return CloudProduct(product_key=key, secret=secret, encrypted=encrypted, product=definition)
        except (GizserialError, CipherError) as error:
            raise self._fault(node, str(error)) from error

    def _text(self, members: dict[str, yaml.Node], name: str) -> str | None:
        node = members.get(name)
        if node is None:
            return None
        # Digits only is a text here: a key or secret of 32 digits is no number.
        if not isinstance(node, yaml.ScalarNode) or not node.value:
            raise self._fault(node, f"{name} is a text")
        value: Any = node.value
        return str(value)

    def _truth(self, members: dict[str, yaml.Node], name: str) -> bool:
        node = members.get(name)
        if node is None:
            return False
        if not isinstance(node, yaml.ScalarNode) or node.value.lower() not in {"true", "false"}:
            raise self._fault(node, f"{name} is true or false")
        return bool(node.value.lower() == "true")
