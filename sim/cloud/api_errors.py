"""The error codes of the Open API: one table for every interface of the cloud (open-api.md §18)."""

from __future__ import annotations

import dataclasses
import enum
from types import MappingProxyType
from typing import Final

from sim.cloud.errors import CloudError


class Code(enum.IntEnum):
    """``error_code``, as the interfaces use them by name."""

    MAC_REGISTERED = 9001
    PRODUCT_KEY_INVALID = 9002
    APPID_INVALID = 9003
    TOKEN_INVALID = 9004
    USER_UNKNOWN = 9005
    TOKEN_EXPIRED = 9006
    SERVER_ERROR = 9008
    CODE_EXPIRED = 9009
    CODE_INVALID = 9010
    DEVICE_NOT_FOUND = 9014
    FORM_INVALID = 9015
    PASSCODE_INVALID = 9016
    NOT_BOUND = 9017
    PHONE_TAKEN = 9018
    USERNAME_TAKEN = 9019
    PASSWORD_WRONG = 9020
    SEND_FAILED = 9021
    EMAIL_TAKEN = 9022
    DEVICE_DISABLED = 9023
    ATTR_INVALID = 9025
    USER_INVALID = 9026
    FIRMWARE_NOT_FOUND = 9027
    DATA_NOT_FOUND = 9029
    SCHEDULER_NOT_FOUND = 9030
    APP_AUTH_INVALID = 9038
    DEPRECATED = 9039
    QR_INVALID = 9040
    THROTTLED = 9041
    DEVICE_OFFLINE = 9042
    TIMESTAMP_INVALID = 9043
    SIGNATURE_INVALID = 9044
    SHARE_TO_SELF = 9080
    CANNOT_SHARE = 9081
    GUEST_NOT_FOUND = 9082
    GUEST_BOUND = 9083
    SHARING_NOT_FOUND = 9084
    MESSAGE_NOT_FOUND = 9085
    SHARING_PENDING = 9087
    SHARING_EXPIRED = 9088
    SHARING_NOT_OPEN = 9089
    OWNER_EXISTS = 9092
    NOT_OWNER = 9093
    SHARING_CANCELLED = 9094
    UNBIND_SELF = 9095
    NOT_GUEST = 9096
    MESSAGE_DELETED = 9098
    NOT_OWNER_OR_GUEST = 9100
    NOT_RECEIVER = 9101
    GROUP_NOT_FOUND = 9200
    SCENE_NOT_FOUND = 9220
    SCENE_FOREIGN = 9221
    RESERVED = 9999


@dataclasses.dataclass(frozen=True, slots=True)
class ErrorSpec:
    """One row of the table."""

    status: int
    """HTTP status."""
    message: str
    """Its text, original spelling included."""


_TABLE: Final = """
400 9001 mac already registered!
400 9002 product_key invalid!
400 9003 appid invalid!
400 9004 token invalid!
400 9005 user does not exist!
400 9006 token expired!
400 9007 m2m_id invalid
500 9008 server error
400 9009 code expired
400 9010 code invalid
400 9011 sandbox scale quota exhausted!
400 9012 production scale quota exhausted!
400 9013 product has no request scale!
404 9014 device not found!
400 9015 form invalid!
400 9016 did or passcode invalid!
401 9017 device not bound!
400 9018 phone unavailable!
400 9019 username unavailable!
400 9020 username or password error!
400 9021 send command failed!
400 9022 email unavailable!
400 9023 device is disabled!
400 9024 fail to notify m2m!
400 9025 attr invalid!
400 9026 user invalid!
404 9027 firmware not found!
404 9028 JD product info not found!
400 9029 datapoint data not found!
404 9030 scheduler not found!
400 9031 qq oauth key invalid!
400 9032 ota upgrade service OK, but in idle or disable!
400 9033 bt firmware unverified, except verify device!
404 9034 bt firmware is OK, but nothing to upgrade!
500 9035 Save kairosdb error!
400 9036 event not defined!
400 9037 send sms failed!
400 9038 X-Gizwits-Application-Auth invalid!
403 9039 Not allowed to call deprecated API!
400 9040 bad qrcode content!
429 9041 request was throttled
400 9042 device offline!
400 9043 X-Gizwits-Timestamp invalid!
400 9044 X-Gizwits-Signature invalid!
400 9045 API deprecated!
400 9046 Register already in progress!
400 9047 device encrypt disabled!
400 9048 device encrypt enabled, does not support this api!
400 9077 email already exists but not activate!
400 9080 can not share device to self!
400 9081 guest or normal user can not share device!
404 9082 guest user not found!
400 9083 guest user alread bound!
404 9084 sharing record not found!
404 9085 message record not found!
400 9087 sharing alread created,waiting for the guest to accept!
400 9088 sharing record expired!
400 9089 sharing record status is not unaccept!
400 9090 owner binding disabled!
400 9092 owner exist, guest can not bind!
403 9093 permission denied, you are not owner!
400 9094 sharing already canceled!
400 9095 can not unbind self!
403 9096 permission denied, you are not guest!
400 9098 message already deleted!
400 9099 notify delele binding failed!
403 9100 permission denied, you are not owner or guest!
403 9101 permission denied, you are not the receiver!
404 9200 group not found!
404 9220 scene not found!
400 9221 the scene does not belong to you!
400 9999 reserved
"""


def _read(table: str) -> dict[int, ErrorSpec]:
    rows = (line.split(" ", 2) for line in table.strip().splitlines())
    return {int(code): ErrorSpec(int(status), message) for status, code, message in rows}


ERRORS: Final = MappingProxyType(_read(_TABLE))
"""Every documented error by its code."""


class ApiError(CloudError):
    """A request that is refused.

    :ivar code: Row of the table.
    :ivar status: Its HTTP status.
    :ivar message: Its text.
    :ivar detail: What in the request it is about, for ``detail_message``; None when there is no more to say.
    """

    def __init__(
        self, code: int, detail: str | None = None, *, status: int | None = None, message: str | None = None
    ) -> None:
        spec = ERRORS.get(code, ErrorSpec(400, "reserved"))
        self.code, self.detail = int(code), detail
        self.status: int = spec.status if status is None else status
        self.message: str = spec.message if message is None else message
        super().__init__(self.message if detail is None else f"{self.message} {detail}")


_ENTERPRISE_TABLE: Final = """
400 5001 body json invalid
400 5002 form invalid
404 5003 enterprise id not exist
400 5004 enterprise secret error
400 5005 product secret error
400 5006 product exist devicegroups
404 5007 association not exist
400 5008 association existed
400 5009 token invalid
400 5010 token not match product_key
400 5011 token has expired
404 5014 Report has not been generated!
404 5015 Product key not exist!
404 5016 Appid not exist!
404 5017 Uid not exist!
403 5201 device group not belong to this product
404 5202 parent group not exist
400 5203 already has one root group
400 5204 group has subgroup
400 5205 group has device item
404 5206 group not exist
404 5301 device not exist
403 5302 device not belong to this product
400 5303 device not bound
400 5304 device is disabled
400 5305 device offline!
400 5401 attr invalid!
404 5402 datapoint data not found!
400 5403 send command failed!
400 5408 raw data error!
"""
ENTERPRISE_ERRORS: Final = MappingProxyType(_read(_ENTERPRISE_TABLE))
"""The errors of the Enterprise API that are given here, by code (§19)."""


class EnterpriseError(ApiError):
    """A request of the Enterprise API that is refused."""

    def __init__(self, code: int, detail: str | None = None) -> None:
        spec = ENTERPRISE_ERRORS[code]
        super().__init__(code, detail, status=spec.status, message=spec.message)
