"""What every interface for apps stands on: who may see which device, and how a command reaches it.

The Open API, the WebSocket API, SNoti and the scheduler check and send through here, so that ``did``,
``attrs`` and ``raw`` mean the same in all of them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Final

from gizserial.m2m.frames import CONTROL, CONTROL_ACKED, BusinessFrame
from gizserial.p0 import P0Codec
from gizserial.product import Product
from sim.cloud.accounts import Accounts, User
from sim.cloud.api_errors import ApiError, Code
from sim.cloud.bindings import Binding, Bindings
from sim.cloud.config import CloudConfig
from sim.cloud.device import Device
from sim.cloud.errors import DeviceOffline, NotDelivered
from sim.cloud.events import Event, Origin, Registered, Unbound, Unregistered
from sim.cloud.firmware import Firmwares
from sim.cloud.firmware_push import FirmwarePusher
from sim.cloud.groups import Groups
from sim.cloud.history import History
from sim.cloud.hub import Hub
from sim.cloud.messages import Messages
from sim.cloud.outbox import Outbox
from sim.cloud.products import CloudProduct, Products
from sim.cloud.rules import Rules
from sim.cloud.scenes import Scenes
from sim.cloud.schedules import Schedules
from sim.cloud.scheduling import Scheduling
from sim.cloud.sharing import Sharings
from sim.cloud.store import Store
from sim.cloud.values import AttrInvalid, Codecs, RawInvalid, control_raw, packet_of, raw_bytes, read_p0


@dataclasses.dataclass(slots=True)
class Endpoints:
    """Where apps reach the cloud: real ports, as the device records tell them (open-api.md §7.2)."""

    host: str = "127.0.0.1"
    """Empty: the host under which a request came in."""
    http: int = 0
    https: int = 0
    ws: int = 0
    wss: int = 0
    mqtt: int = 0
    mqtts: int = 0


class AppSide:
    """Devices, users and bindings together, with the rules between them.

    :param now: Unix seconds.
    """

    def __init__(
        self,
        *,
        config: CloudConfig,
        store: Store,
        hub: Hub,
        products: Products,
        now: Callable[[], float],
    ) -> None:
        database = store.database
        self.config, self.store, self.hub, self.products, self.now = config, store, hub, products, now
        self.accounts: Final = Accounts(
            database,
            now=now,
            told=hub.tell,
            token_time=config.token_time,
            accept_any_appid=config.accept_any_appid,
        )
        self.bindings: Final = Bindings(database, now=now, told=hub.tell)
        self.history: Final = History(database, retention=config.history_time)
        self.outbox: Final = Outbox(database, now=now, fixed_code=config.fixed_code)
        self.firmwares: Final = Firmwares(database)
        self.groups: Final = Groups(database, now=now)
        self.messages: Final = Messages(database, now=now)
        self.sharings: Final = Sharings(database, self.bindings, self.messages, now=now)
        self.schedules: Final = Schedules(database, now=now)
        self.scenes: Final = Scenes(database, now=now)
        self.rules: Final = Rules(database, now=now)
        self.scheduling: Final = Scheduling(self)
        self.pusher: Final = FirmwarePusher(self)
        self.endpoints: Final = Endpoints()
        self.lose_sessions: Callable[[str | None], int] = lambda _uid: 0
        """Loses the WebSocket sessions of a user, or of all; gives how many (websocket-api.md §10.4)."""
        self.throttled = 0
        """So many calls of the Open API are refused with 9041 (open-api.md R10)."""
        self._codecs = Codecs()
        hub.subscribe(self._watch)

    def _watch(self, event: Event) -> None:
        if isinstance(event, Registered | Unregistered):
            self.bindings.void(event.did)
        if isinstance(event, Unbound):
            self.groups.left(event.uid, event.did)
            self.sharings.ended(event.uid, event.did, event.role)
        if isinstance(event, Registered):
            device = self.store.device(event.did)
            if device is not None:
                self.fulfil(device)

    # --- devices

    def device(self, did: str) -> Device:
        """The device (:raises ApiError: 9014, there is none)."""
        device = self.store.device(did)
        if device is None:
            raise ApiError(Code.DEVICE_NOT_FOUND)
        return device

    def bound(self, user: User, did: str) -> tuple[Device, Binding]:
        """A device of the user's (:raises ApiError: 9014 unknown, 9017 not bound)."""
        device = self.device(did)
        binding = self.bindings.get(user.uid, did)
        if binding is None:
            raise ApiError(Code.NOT_BOUND)
        return device, binding

    def commandable(self, user: User, did: str) -> Device:
        """A device that the user may command now, checked in the order of open-api.md §9.

        :raises ApiError: 9014, 9017, 9023, 9042.
        """
        device, _ = self.bound(user, did)
        return self.ready(device)

    def ready(self, device: Device) -> Device:
        """The same device when it can be commanded (:raises ApiError: 9023 disabled, 9042 offline)."""
        if device.disabled:
            raise ApiError(Code.DEVICE_DISABLED)
        if not self.hub.is_online(device.did):
            raise ApiError(Code.DEVICE_OFFLINE)
        return device

    def cloud_product(self, product_key: str) -> CloudProduct | None:
        """A configured product."""
        return self.products.get(product_key)

    def product(self, product_key: str) -> Product | None:
        """The data points of a product, where they are known."""
        known = self.products.get(product_key)
        return None if known is None else known.product

    def codec(self, product: Product) -> P0Codec:
        """The product's codec."""
        return self._codecs.of(product)

    # --- commands

    def attrs_packet(
        self,
        product_key: str,
        attrs: Mapping[str, Any],
        *,
        sn: int | None = None,
        base64_text: bool = False,
        pad: bool = True,
    ) -> bytes:
        """The packet that sets data points of a product: 0090, or 0093 with ``sn``.

        :raises AttrInvalid: a point that cannot be set so, or a product whose points are not known.
        """
        product = self.product(product_key)
        if product is None:
            raise AttrInvalid(next(iter(attrs), ""), "the data points of its product are not known here")
        raw = control_raw(product, attrs, base64_text=base64_text, pad=pad)
        return packet(self.codec(product).control(raw), sn)

    def read_packet(self, device: Device, names: list[str] | None = None, *, sn: int | None = None) -> bytes:
        """The packet that asks for the state (websocket-api.md §7.1)."""
        product = self.product(device.product_key)
        return packet(b"\x02" if product is None else read_p0(self.codec(product), names or ()), sn)

    def command_packet(self, product_key: str, body: Mapping[str, Any]) -> bytes:
        """The packet of a control body for a product: ``attrs`` (or ``attr``), else ``raw`` (§9).

        :raises ApiError: 9015 neither is there, 9025 a value that cannot be sent.
        """
        attrs = body.get("attr") if body.get("attrs") is None else body["attrs"]
        base64_text = body.get("binary_coding") == "base64"
        if attrs is not None:
            if not isinstance(attrs, Mapping) or not attrs:
                raise ApiError(Code.FORM_INVALID, "attrs is an object with at least one data point")
            try:
                return self.attrs_packet(product_key, attrs, base64_text=base64_text)
            except AttrInvalid as error:
                raise ApiError(Code.ATTR_INVALID, str(error)) from error
        if body.get("raw") is None:
            raise ApiError(Code.FORM_INVALID, "attrs or raw is needed")
        try:
            return packet_or_p0(raw_bytes(body["raw"], base64_text=base64_text))
        except RawInvalid as error:
            raise ApiError(Code.ATTR_INVALID, f"raw: {error}") from error

    def send(self, device: Device, data: bytes, origin: Origin) -> None:
        """Hand a packet to the device's connection.

        :raises ApiError: 9023 disabled, 9042 offline, 9021 its connection takes no more.
        """
        self.ready(device)
        try:
            self.hub.send(device.did, data, origin)
        except DeviceOffline as error:
            raise ApiError(Code.DEVICE_OFFLINE) from error
        except NotDelivered as error:
            raise ApiError(Code.SEND_FAILED, str(error)) from error

    # --- bindings

    def bind(
        self,
        uid: str,
        device: Device,
        appid: str,
        *,
        remark: str = "",
        dev_alias: str = "",
        set_owner: bool = False,
    ) -> Binding:
        """Give a user a device, in the role that its product asks for (open-api.md §7.1).

        :param set_owner: The first becomes owner, as with every device of a product with sharing.
        :raises ApiError: 9092, somebody else owns it.
        """
        set_owner = set_owner or self._is_shared(device)
        return self.bindings.bind(uid, device, appid, remark=remark, dev_alias=dev_alias, set_owner=set_owner)

    def fulfil(self, device: Device) -> None:
        """Give a registered device to the users of the configuration."""
        self.bindings.fulfil(device, set_owner=self._is_shared(device))

    def _is_shared(self, device: Device) -> bool:
        product = self.products.get(device.product_key)
        return product is not None and product.shared

    # --- administration

    def delete_user(self, uid: str) -> bool:
        """Forget a user, his bindings and tokens."""
        self.bindings.drop_user(uid)
        for part in (self.groups, self.sharings, self.messages, self.schedules, self.scenes, self.rules):
            part.drop_user(uid)
        return self.accounts.delete_user(uid)

    def delete_device(self, did: str) -> bool:
        """Forget a device: nobody has it any more, and its session ends."""
        for binding in self.bindings.of_device(did):
            self.bindings.unbind(binding.uid, did)
        found = self.store.delete(did)
        self.history.forget(did)
        self.hub.disconnect(did, "the device was deleted")
        return found


def packet(p0: bytes, sn: int | None = None) -> bytes:
    """A P0 as 0090, or as 0093 with ``sn``."""
    return BusinessFrame(CONTROL if sn is None else CONTROL_ACKED, p0, sn).encode()


def packet_or_p0(raw: bytes) -> bytes:
    """Raw data of the Open API: a whole packet when it is one, else the body after 0090 (open-api.md §9).

    :raises RawInvalid: it is empty.
    """
    if isinstance(BusinessFrame.decode(raw), BusinessFrame):
        return raw
    return packet(raw) if raw else packet_of(raw)
