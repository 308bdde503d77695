"""What can go wrong in the embedded cloud.

::

    CloudError (GizserialError)
    ├── StoreError (OSError)            the database cannot be opened, read or written
    ├── AddressError (ValueError)       an address that is none, or that cannot be listened on
    ├── ConfigError (ValueError)        a configuration file with errors
    └── DeviceError                     a device that was asked for something did not do it
        ├── UnknownDevice (LookupError) no device has this did
        ├── DeviceOffline               it has no MQTT session
        ├── NotDelivered                its connection takes no more
        └── NoAnswer (TimeoutError)     it did not answer in time
"""

from __future__ import annotations

from gizserial.errors import GizserialError


class CloudError(GizserialError):
    """Base of everything the embedded cloud raises on purpose."""


class StoreError(CloudError, OSError):
    """The database cannot be opened, read or written."""


class AddressError(CloudError, ValueError):
    """An address that is none, or that cannot be listened on."""


class ConfigError(CloudError, ValueError):
    """A configuration file with errors; the message names line and column."""


class DeviceError(CloudError):
    """A device did not do what it was asked for.

    :ivar did: The device.
    """

    def __init__(self, did: str, message: str) -> None:
        self.did = did
        super().__init__(message)


class UnknownDevice(DeviceError, LookupError):
    """No device has this did."""

    def __init__(self, did: str) -> None:
        super().__init__(did, f"no device with did {did} has registered here")


class DeviceOffline(DeviceError):
    """It has no MQTT session with all its subscriptions."""

    def __init__(self, did: str) -> None:
        super().__init__(did, f"device {did} is offline")


class NotDelivered(DeviceError):
    """The message cannot be handed to the device's connection."""

    def __init__(self, did: str, reason: str) -> None:
        super().__init__(did, f"device {did}: {reason}")


class NoAnswer(DeviceError, TimeoutError):
    """It did not answer in time (device-cloud.md R12)."""
