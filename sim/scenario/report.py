"""Runs as JUnit XML, which CI services show as tests: one test per scenario."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree import ElementTree as ET

from sim.conformance.words import clean
from sim.scenario.model import Scenario
from sim.scenario.result import Result


def junit(results: Sequence[Result], broken: Sequence[tuple[Scenario, str]] = ()) -> bytes:
    """The document.

    :param broken: Scenarios that could not be played to their end, and why.
    """
    suites = ET.Element("testsuites", name="gizsim run")
    suite = ET.SubElement(
        suites,
        "testsuite",
        name="gizserial.scenarios",
        tests=str(len(results) + len(broken)),
        failures=str(sum(not result.passed for result in results)),
        errors=str(len(broken)),
        skipped="0",
        time=f"{sum(result.seconds for result in results):.3f}",
    )
    for result in results:
        case = _case(suite, result.scenario, result.seconds)
        failed = result.failed
        if failed is not None and failed.failure is not None:
            message = clean(f"{failed.step.place}: {failed.step.title}: expected {failed.failure.expected}")
            ET.SubElement(case, "failure", message=message, type="step").text = clean(result.summary)
        steps = [f"{done.t:10.3f}  {done.step.place}  {done.step.title}" for done in result.steps]
        ET.SubElement(case, "system-out").text = clean("\n".join([f"seed {result.seed}", *steps]))
    for scenario, why in broken:
        ET.SubElement(_case(suite, scenario, 0.0), "error", message=clean(why), type="run").text = clean(why)
    ET.indent(suites)
    document: bytes = ET.tostring(suites, encoding="utf-8", xml_declaration=True)
    return document + b"\n"


def _case(suite: ET.Element, scenario: Scenario, seconds: float) -> ET.Element:
    name = clean(f"{scenario.source}: {scenario.title}")
    return ET.SubElement(suite, "testcase", classname="scenario", name=name, time=f"{seconds:.3f}")
