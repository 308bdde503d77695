"""Conformance of MCU firmware: cases, the bench that plays the module by hand, and reports of a run."""
