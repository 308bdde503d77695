"""Module ↔ cloud: topics, business frames, control messages, MQTT 3.1, HTTP, and the module's side of it all.

Nothing here opens a connection, reads a clock or makes random numbers: bytes, times and random sources come
as arguments. The module's bridge and the embedded cloud use the same code from their two ends.
"""
