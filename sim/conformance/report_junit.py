"""A run as JUnit XML, which CI services show as tests."""

from __future__ import annotations

from xml.etree import ElementTree as ET

from sim.conformance.model import CaseResult, RunResult, Severity, Verdict
from sim.conformance.report_text import around, grouped, source
from sim.conformance.words import Words, clean


def render(run: RunResult, *, fails_from: Severity = Severity.SHOULD) -> bytes:
    """The document.

    :param fails_from: Deviations below this severity are no failures, but told in the output of the case.
    """
    words = Words(run.product)
    failed = run.failed(fails_from)
    suites = ET.Element("testsuites", name="gizsim check")
    suite = ET.SubElement(
        suites,
        "testsuite",
        name=clean(f"gizserial.{run.product.name}"),
        tests=str(len(run.results) + bool(run.stopped)),
        failures=str(len(failed)),
        errors=str(len(run.of(Verdict.BROKEN)) + bool(run.stopped)),
        skipped=str(len(run.of(Verdict.SKIPPED))),
        time=f"{run.seconds:.3f}",
    )
    properties = ET.SubElement(suite, "properties")
    for name, value in run.facts.items():
        ET.SubElement(properties, "property", name=name, value=clean(value))
    for result in run.results:
        suite.append(_case(result, words, failed=result in failed))
    if run.stopped:
        # Or a run that ended after three good cases would be green.
        ended = ET.SubElement(suite, "testcase", classname="mcu", name="the run went to its end", time="0")
        ET.SubElement(ended, "error", message=clean(run.stopped))
    ET.indent(suites)
    document: bytes = ET.tostring(suites, encoding="utf-8", xml_declaration=True)
    return document + b"\n"


def _case(result: CaseResult, words: Words, *, failed: bool) -> ET.Element:
    case = result.case
    element = ET.Element(
        "testcase",
        classname=f"mcu.{case.group}",
        name=f"{case.id}: {case.title}",
        time=f"{result.seconds:.3f}",
    )
    if result.verdict is Verdict.SKIPPED:
        ET.SubElement(element, "skipped", message=clean(result.reason))
    elif result.verdict is Verdict.BROKEN:
        ET.SubElement(element, "error", message=clean(result.reason))
    elif result.verdict is Verdict.FAILED:
        text = clean(_text(result, words))
        if failed:
            first = result.findings[0].text if result.findings else case.title
            told = ET.SubElement(element, "failure", message=clean(first), type=case.severity.word)
        else:
            told = ET.SubElement(element, "system-out")
        told.text = text
    return element


def _text(result: CaseResult, words: Words) -> str:
    lines = [f"{result.case.rule} ({source(result.case)})"]
    lines.append(f"What to do: {result.case.remedy}")
    for finding, more in grouped(result.findings):
        lines += ["", finding.text + (f" (and {more} more like it)" if more else "")]
        lines += [f"  expected: {finding.expected}"] if finding.expected else []
        lines += [f"  came:     {finding.got}"] if finding.got else []
    lines += ["", *(words.line(entry) for entry in around(result, 20))]
    return "\n".join(lines)
