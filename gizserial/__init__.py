"""The Gizwits MCU serial protocol, without I/O."""
