"""What a simulated module says of itself on the LAN."""

from __future__ import annotations

import re
from typing import Final

from gizserial.lan.messages import Hotspot
from gizserial.lan.server import LanFacts
from gizserial.m2m.http import Server
from gizserial.m2m.identity import Identity
from gizserial.module import ModuleRole
from sim.network import Network

_PRODUCT_KEY: Final = re.compile(r"[0-9a-zA-Z]{32}")


def lan_facts(role: ModuleRole, identity: Identity, server: Server | None, network: Network) -> LanFacts:
    """The module as it is now. What an MCU says wrongly of itself is left out."""
    info = role.info
    key = info.product_key if info is not None else identity.product_key
    return LanFacts(
        mac=role.mac,
        product_key=key if _PRODUCT_KEY.fullmatch(key) else "",
        passcode=identity.passcode,
        did=identity.did,
        attributes=(info.dev_attr if info is not None else None) or bytes(8),
        server=f"{server.host}:{server.port}" if server is not None else "",
        cloud_firmware=identity.soft_version,
        wifi_hard_ver=role.options.hard_ver,
        wifi_soft_ver=role.soft_ver,
        mcu_hard_ver=info.hard_ver if info is not None else "",
        mcu_soft_ver=info.soft_ver if info is not None else "",
        p0_ver=info.p0_ver if info is not None else "",
        binding=role.binding,
        soft_ap=role.provisioning == "softap",
        onboarding=role.provisioning is not None,
        hotspots=(Hotspot(network.ssid, network.strength),),
    )
