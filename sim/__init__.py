"""The parts that pretend: module, MCU, cloud."""
