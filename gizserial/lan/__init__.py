"""The protocol between a module and apps on the same network (lan.md): machines and codecs, no I/O.

:mod:`~gizserial.lan.server` is the module's end, :mod:`~gizserial.lan.client` ours.
"""
