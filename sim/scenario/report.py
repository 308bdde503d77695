"""Runs as JUnit XML, which CI services show as tests: one test per scenario."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree import ElementTree as ET

from sim.conformance.words import clean
from sim.scenario.result import Result


def junit(results: Sequence[Result]) -> bytes:
    """The document."""
    suites = ET.Element("testsuites", name="gizsim run")
    suite = ET.SubElement(
        suites,
        "testsuite",
        name="gizserial.scenarios",
        tests=str(len(results)),
        failures=str(sum(not result.passed for result in results)),
        errors="0",
        skipped="0",
        time=f"{sum(result.seconds for result in results):.3f}",
    )
    for result in results:
        case = ET.SubElement(
            suite,
            "testcase",
            classname="scenario",
            name=clean(f"{result.scenario.source}: {result.scenario.title}"),
            time=f"{result.seconds:.3f}",
        )
        failed = result.failed
        if failed is not None and failed.failure is not None:
            message = clean(f"{failed.step.place}: {failed.step.title}: expected {failed.failure.expected}")
            ET.SubElement(case, "failure", message=message, type="step").text = clean(result.summary)
        steps = [f"{done.t:10.3f}  {done.step.place}  {done.step.title}" for done in result.steps]
        ET.SubElement(case, "system-out").text = clean("\n".join([f"seed {result.seed}", *steps]))
    ET.indent(suites)
    document: bytes = ET.tostring(suites, encoding="utf-8", xml_declaration=True)
    return document + b"\n"
