"""The configuration file of the cloud, and what it makes of a cloud (cli.md §5)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from support_apps import LAMP, MAC, PRODUCT_SECRET, register
from support_cloud_mqtt import PASSCODE

from gizserial.io.products import load_product
from sim.cloud.api_errors import ApiError, Code
from sim.cloud.app import EmbeddedCloud
from sim.cloud.config import AppConfig, CloudConfig, UserConfig, WantedBinding
from sim.cloud.config_file import Settings, example_config, load_config
from sim.cloud.errors import ConfigError
from sim.cloud.products import CloudProduct, Credential

PK = load_product(LAMP).product_key
CLI_MD = """
products:
  - definition: lamp.json          # product_key and data points
    product_secret: 0123456789abcdef0123456789abcdef
apps:
  - appid: c70a66ff039d41b4a220e198b0fcc8b3
    appsecret: 00000000000000000000000000000000
    products: all                 # or a list of product keys
users:
  - username: bench@example.com
    password: secret
    bind: [{product_key: "%s", mac: 0123456789AB}]   # takes effect as soon as the device has registered
"""


def read(tmp_path: Path, text: str) -> Settings:
    (tmp_path / "lamp.json").write_bytes(LAMP.read_bytes())
    file = tmp_path / "cloud.yaml"
    file.write_text(text, "utf-8")
    return load_config(file)


def started(settings: Settings, data: Path | None = None, **options: Any) -> EmbeddedCloud:
    return EmbeddedCloud(
        CloudConfig(
            http="127.0.0.1:0",
            mqtt=("127.0.0.1:0",),
            data=data,
            products=settings.products,
            apps=settings.apps,
            users=settings.users,
            **settings.options,
            **options,
        )
    )


async def registered(cloud: EmbeddedCloud, mac: str) -> str:
    """Register over HTTP, as a module does; gives the did."""
    async with httpx.AsyncClient(timeout=30, trust_env=False) as client:
        answer = await client.post(
            f"http://{cloud.addresses['http']}/dev/devices",
            data={"passcode": PASSCODE, "mac": mac, "product_key": PK},
        )
    return answer.text.strip().removeprefix("did=")


# --- what it says


def test_the_example_of_the_contract(tmp_path: Path) -> None:
    settings = read(tmp_path, CLI_MD % PK.upper())
    assert settings.products == (
        CloudProduct(product_key=PK, product=load_product(LAMP), secret="0123456789abcdef0123456789abcdef"),
    )
    assert settings.apps == (
        AppConfig(appid="c70a66ff039d41b4a220e198b0fcc8b3", appsecret="0" * 32, products=None),
    )
    wanted = WantedBinding(product_key=PK, mac="0123456789AB")
    assert settings.users == (
        UserConfig(kind="username", name="bench@example.com", password="secret", bind=(wanted,)),
    )
    assert settings.options == {}


def test_the_commented_example_shows_every_member() -> None:
    text = example_config().read_text("utf-8")
    settings = load_config(example_config())
    [product] = settings.products
    assert product.credentials == (Credential("JP39yqAdT8SV70t6DwgNIA", "vKAcaF8sQhqrpL2gq6sAYA"),)
    assert product.enterprise is not None
    assert settings.apps
    assert settings.users[0].bind[0].dev_alias == "bench lamp"
    assert settings.options["token_time"] == 7 * 86400.0
    assert set(yaml.safe_load(text)["settings"]) == {
        *("token_days", "history_days", "accept_any_appid", "strict_products", "strict_raw"),
        *("ws_bool_as_int", "names", "fixed_code", "strong_passwords"),
    }
    assert settings.products[0].secret != PRODUCT_SECRET


@pytest.mark.parametrize("text", ["", "# nothing\n", "products:\n", "products: []\nusers: null\n", "{}"])
def test_an_empty_file_is_a_good_one(text: str, tmp_path: Path) -> None:
    assert read(tmp_path, text) == Settings()


def test_every_form_of_a_user_and_an_app(tmp_path: Path) -> None:
    settings = read(
        tmp_path,
        "users: [{username: 12345}, {email: a@b.example}, {phone: '+49123'}]\n"
        "apps: [{}, {appid: my app}, {products: [ABCDEF, my.product]}]\n",
    )
    assert [(user.kind, user.name) for user in settings.users] == [
        ("username", "12345"),
        ("email", "a@b.example"),
        ("phone", "+49123"),
    ]
    assert [app.products for app in settings.apps] == [None, None, ("abcdef", "my.product")]


def test_a_definition_without_a_key_takes_the_given_one(tmp_path: Path) -> None:
    bare = LAMP.read_text("utf-8").replace(f'"{PK}"', '""')
    (tmp_path / "bare.json").write_text(bare, "utf-8")
    [product] = read(tmp_path, "products: [{definition: bare.json, product_key: mine}]").products
    assert product.product_key == "mine"
    assert product.product is not None


# --- what it makes of a cloud


async def test_an_address_as_username_logs_in_and_has_the_device_once_it_registers(tmp_path: Path) -> None:
    async with started(read(tmp_path, CLI_MD % PK)) as cloud:
        side = cloud.side
        user = side.accounts.check_password("bench@example.com", "secret")
        assert side.accounts.app("c70a66ff039d41b4a220e198b0fcc8b3").appsecret == "0" * 32
        assert side.bindings.of_user(user.uid) == []
        did = await registered(cloud, "0123456789ab")
        [binding] = side.bindings.of_user(user.uid)
        assert (binding.did, binding.role) == (did, "special")
        assert cloud.generated == ()


async def test_what_is_left_out_is_made_up_once_and_kept(tmp_path: Path) -> None:
    text = (
        "products: [{definition: lamp.json, snoti: [{}, {auth_id: mine}], enterprise: {id: e}}]\n"
        "apps: [{}, {appid: known}]\n"
        "users: [{email: a@b.example}]\n"
    )
    settings = read(tmp_path, text)
    async with started(settings, tmp_path / "data") as cloud:
        first = {each.what: each.members for each in cloud.generated}
        product = cloud.products.get(PK)
        secrets = [app.appsecret for app in cloud.side.accounts.apps()]
        assert [each.what for each in cloud.generated] == [
            *("product", "snoti", "snoti", "enterprise", "app", "app", "user"),
        ]
        assert product is not None
        assert first["product"] == {"product_key": PK, "product_secret": product.secret}
        assert product.credentials[1].id == "mine"
        assert all(login.id and login.secret for login in product.credentials)
        assert first["enterprise"]["id"] == "e"
        assert cloud.side.accounts.check_password("a@b.example", first["user"]["password"])
        assert first["user"]["password"] not in repr(cloud.generated)
    async with started(settings, tmp_path / "data") as cloud:
        assert cloud.generated == ()
        assert cloud.products.get(PK) == product
        assert [app.appsecret for app in cloud.side.accounts.apps()] == secrets
        assert cloud.side.accounts.check_password("a@b.example", first["user"]["password"])


async def test_a_changed_password_counts_and_ends_what_was_logged_in(tmp_path: Path) -> None:
    before = Settings(users=(UserConfig(kind="username", name="me", password="old"),))
    after = Settings(users=(UserConfig(kind="username", name="me", password="new"),))
    async with started(before, tmp_path / "data") as cloud:
        uid = cloud.side.accounts.check_password("me", "old").uid
        token = cloud.side.accounts.issue_token(uid, "app").token
    async with started(before, tmp_path / "data") as cloud:
        assert cloud.side.accounts.check_token(token)[0].uid == uid
    async with started(after, tmp_path / "data") as cloud:
        assert cloud.side.accounts.check_password("me", "new").uid == uid
        with pytest.raises(ApiError) as refused:
            cloud.side.accounts.check_token(token)
    assert refused.value.code == Code.TOKEN_INVALID


async def test_devices_that_are_there_already_are_bound_and_those_given_up_stay_bound(
    tmp_path: Path,
) -> None:
    user = UserConfig(
        kind="username", name="me", password="x", bind=(WantedBinding(product_key=PK, mac=MAC),)
    )
    products = (CloudProduct(product_key=PK, product=load_product(LAMP), secret=PRODUCT_SECRET),)
    async with started(Settings(products=products), tmp_path / "data") as cloud:
        did = register(cloud).did
    async with started(Settings(products=products, users=(user,)), tmp_path / "data") as cloud:
        uid = cloud.side.accounts.check_password("me", "x").uid
        assert [binding.did for binding in cloud.side.bindings.of_user(uid)] == [did]
    async with started(Settings(products=products), tmp_path / "data") as cloud:
        assert [binding.did for binding in cloud.side.bindings.of_user(uid)] == [did]
        assert cloud.store.database.all("SELECT * FROM wanted_binding") == []


async def test_of_a_shared_product_the_first_user_is_owner_and_the_second_guest() -> None:
    wanted = (WantedBinding(product_key=PK, mac=MAC),)
    users = tuple(
        UserConfig(kind="username", name=name, password="x", bind=wanted) for name in ("first", "second")
    )
    products = (CloudProduct(product_key=PK, product=load_product(LAMP), shared=True),)
    async with started(Settings(products=products, users=users)) as cloud:
        device = register(cloud)
        cloud.side.fulfil(device)
        roles = [(binding.role, binding.uid) for binding in cloud.side.bindings.of_device(device.did)]
        first, second = (cloud.side.accounts.check_password(user.name, "x").uid for user in users)
    assert roles == [("owner", first), ("guest", second)]


def test_a_name_that_is_none_is_told_in_plain_words(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        read(tmp_path, "? [a, b]\n: 1\n")
    assert str(error.value).endswith(
        "line 1, column 3: a name is needed here; known are: products, apps, users, firmware, settings"
    )


async def test_devices_are_where_the_settings_say(tmp_path: Path) -> None:
    """snoti.md R7."""
    settings = read(tmp_path, "settings: {country: Norway, city: Tromsø}")
    cloud = started(settings)
    assert cloud.config.place == {"country": "Norway", "region": "", "city": "Tromsø"}
