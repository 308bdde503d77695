"""Products that were added while the cloud ran: kept, and served again at the next start."""

from __future__ import annotations

import json
from typing import Any, Final

from gizserial.errors import GizserialError
from gizserial.product import Product, parse_product, to_definition
from sim.cloud.database import Database
from sim.cloud.products import CloudProduct, Credential, Products

_TABLES: Final = """
CREATE TABLE IF NOT EXISTS added_product (
    product_key TEXT PRIMARY KEY,
    content TEXT NOT NULL               -- JSON
) WITHOUT ROWID;
"""


class AddedProducts:
    """Products of the administrator, beside those of the configuration, which come first."""

    def __init__(self, database: Database, products: Products) -> None:
        database.create(_TABLES)
        self._database, self._products = database, products
        for (content,) in database.all("SELECT content FROM added_product ORDER BY product_key"):
            product = _read(json.loads(content))
            if product is not None and products.get(product.product_key) is None:
                products.add(product)

    def put(self, product: CloudProduct) -> None:
        """Serve a product, in place of the one with its key."""
        with self._database.transaction() as db:
            db.execute(
                "INSERT OR REPLACE INTO added_product VALUES (?, ?)",
                (product.product_key, json.dumps(_written(product))),
            )
        self._products.remove(product.product_key)
        self._products.add(product)

    def remove(self, product_key: str) -> bool:
        """Serve a product no more; whether it was served.

        One of the configuration is back at the next start.
        """
        known = self._products.get(product_key)
        if known is None:
            return False
        with self._database.transaction() as db:
            db.execute("DELETE FROM added_product WHERE product_key = ?", (known.product_key,))
        return self._products.remove(known.product_key)


def _written(product: CloudProduct) -> dict[str, Any]:
    return {
        "product_key": product.product_key,
        "secret": product.secret,
        "shared": product.shared,
        "definition": None if product.product is None else to_definition(product.product),
        "credentials": [[login.id, login.secret] for login in product.credentials],
        "enterprise": None
        if product.enterprise is None
        else [product.enterprise.id, product.enterprise.secret],
    }


def _read(content: dict[str, Any]) -> CloudProduct | None:
    """What was written; None when a later version would not take it."""
    definition: Product | None = None
    try:
        if content["definition"] is not None:
            text = json.dumps(content["definition"], ensure_ascii=False)
            definition = parse_product(text.encode(), content["product_key"])
        return CloudProduct(
            product_key=content["product_key"],
            secret=content["secret"],
            shared=content["shared"],
            product=definition,
            credentials=tuple(Credential(*login) for login in content["credentials"]),
            enterprise=None if content["enterprise"] is None else Credential(*content["enterprise"]),
        )
    except GizserialError:
        return None
