"""What a conformance run is made of: cases, verdicts and what was seen on the line."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Literal

from gizserial.framing import BadFrame, Frame, Noise
from gizserial.product import DataType, Layout, Product
from sim.conformance.samples import changeable

if TYPE_CHECKING:
    from sim.conformance.bench import Bench


class Severity(enum.IntEnum):
    """How the specification says it; a deviation from a ``may`` is a remark."""

    MAY = 1
    SHOULD = 2
    MUST = 3

    @property
    def word(self) -> str:
        """As the specification writes it, in small letters."""
        return self.name.lower()


class Verdict(enum.Enum):
    """How a case ended."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"
    BROKEN = "broken"
    """The case itself could not be carried out: the line went down, or our own fault."""


@dataclasses.dataclass(frozen=True, slots=True)
class Need:
    """What a case needs of the product or of the person at the bench.

    :ivar missing: Says why the case cannot run, or nothing.
    """

    name: str
    missing: Callable[[Setting], str]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What a run may do.

    :ivar leave: Data points that are never written, for example because a motor hangs on them.
    :ivar person: Somebody can press buttons when asked to.
    :ivar slow: Cases that wait for minutes are run too.
    :ivar large: Frames are sent that may overflow the buffer of generated code (observed on the vendor's
        SDK: status size + flags + 20 bytes, without a check).
    """

    product: Product
    leave: frozenset[str] = frozenset()
    person: bool = False
    slow: bool = False
    large: bool = False


CaseFunction = Callable[["Bench"], Awaitable[None]]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One thing that firmware has to do.

    :ivar id: ``group.name``, stable: CI jobs skip by it.
    :ivar title: A short sentence, what the firmware does when it is right.
    :ivar rule: What the rule is and why it matters, for the person who has to change the firmware.
    :ivar remedy: What to do, or where to look, when it fails.
    :ivar section: Where the rule stands in the public serial protocol document.
    :ivar needs: All must be there, otherwise the case is skipped with the reason.
    :ivar defects: Named defects of the simulated MCU (``gizsim mcu --list-defects``) that it finds.
    :ivar observes: It sends nothing: it looks at everything that the other cases brought, and runs last.
    """

    id: str
    title: str
    rule: str
    section: str
    severity: Severity
    run: CaseFunction
    needs: tuple[Need, ...] = ()
    defects: tuple[str, ...] = ()
    observes: bool = False
    remedy: str = ""

    @property
    def group(self) -> str:
        """The part of the id before the point."""
        return self.id.partition(".")[0]


Direction = Literal["sent", "received"]


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """One thing on the line."""

    time: float
    """When its last byte arrived or had left, in seconds since the run began."""
    direction: Direction
    """As the bench sees it: ``received`` came from the MCU."""
    item: Frame | BadFrame | Noise
    wire: bytes
    note: str = ""
    """What is special about bytes that the bench sent."""
    began: float = 0.0
    """When its first byte was on the line."""

    @property
    def frame(self) -> Frame | None:
        """The frame, if it is a good one."""
        return self.item if isinstance(self.item, Frame) else None

    @property
    def framed(self) -> bool:
        """A frame, or one that only its checksum spoils: no noise looks like that."""
        item = self.item
        return isinstance(item, Frame) or (isinstance(item, BadFrame) and item.reason == "checksum")


@dataclasses.dataclass(frozen=True, slots=True)
class Finding:
    """One deviation, in words that a person can act on."""

    text: str
    """What happened."""
    expected: str = ""
    got: str = ""
    entry: Entry | None = None
    """Where it shows, if it shows in one place."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CaseResult:
    """How one case ended, with everything that crossed the line meanwhile."""

    case: Case
    verdict: Verdict
    findings: tuple[Finding, ...] = ()
    reason: str = ""
    """Why it was skipped or broken."""
    began: float = 0.0
    seconds: float = 0.0
    entries: tuple[Entry, ...] = ()

    @property
    def remark(self) -> bool:
        """A deviation from a ``may``."""
        return self.verdict is Verdict.FAILED and self.case.severity is Severity.MAY


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """A whole run.

    :ivar facts: What was learnt about the MCU: versions, product key, response times.
    :ivar restored: Empty, or what could not be put back as it was found.
    """

    product: Product
    results: tuple[CaseResult, ...]
    seconds: float
    facts: dict[str, str] = dataclasses.field(default_factory=dict)
    restored: str = ""
    stopped: str = ""
    """Why the run ended before its time; empty when all cases had their turn."""

    def of(self, verdict: Verdict) -> list[CaseResult]:
        """The results with that verdict."""
        return [result for result in self.results if result.verdict is verdict]

    def failed(self, least: Severity = Severity.SHOULD) -> list[CaseResult]:
        """Failed cases of at least that severity."""
        return [result for result in self.of(Verdict.FAILED) if result.case.severity >= least]

    def remarks(self) -> list[CaseResult]:
        """Deviations from a ``may``."""
        return [result for result in self.results if result.remark]


class CaseFailedError(Exception):
    """The firmware deviates; the case ends here."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.text)
        self.finding = finding


class CaseSkippedError(Exception):
    """It turned out that the case cannot be run here."""


class LineLostError(Exception):
    """The line went down in the middle of a case."""


# --- needs


def _writable(what: str, kinds: frozenset[DataType]) -> Need:
    def missing(setting: Setting) -> str:
        if any(p.data_type in kinds and p.name not in setting.leave for p in setting.product.writable):
            return ""
        left = any(p.data_type in kinds for p in setting.product.writable)
        return f"every writable {what} is left alone" if left else f"the product has no writable {what}"

    return Need(f"a writable {what}", missing)


def _changeable(setting: Setting) -> str:
    points = setting.product.writable
    if any(changeable(p) for p in points if p.name not in setting.leave):
        return ""
    if not points:
        return "the product has no writable data point"
    left = any(p.name in setting.leave for p in points)
    return "every writable data point is left alone" if left else "no writable data point has two values"


NUMBERS = frozenset({DataType.UINT8, DataType.UINT16, DataType.UINT32})
WRITABLE = Need("a data point that can be changed", _changeable)
WRITABLE_BOOL = _writable("bool", frozenset({DataType.BOOL}))
WRITABLE_ENUM = _writable("enum", frozenset({DataType.ENUM}))
WRITABLE_NUMBER = _writable("number", NUMBERS)
WRITABLE_BINARY = _writable("binary", frozenset({DataType.BINARY}))
TWO_WRITABLE = Need(
    "two writable data points",
    lambda setting: (
        ""
        if sum(p.name not in setting.leave for p in setting.product.writable) > 1
        else "fewer than two data points may be written"
    ),
)
POINTS = Need("data points", lambda s: "" if s.product.points else "the product has no data points")
FIXED = Need(
    "a fixed-length product",
    lambda s: "" if s.product.layout is Layout.FIXED else "the product is of variable length",
)
VARIABLE = Need(
    "a variable-length product",
    lambda s: "" if s.product.layout is Layout.VARIABLE else "the product is of fixed length",
)
PERSON = Need("a person", lambda s: "" if s.person else "nobody is asked to press buttons (--ask)")
SLOW = Need("patience", lambda s: "" if s.slow else "it waits for minutes (--slow)")
LARGE = Need(
    "permission for large frames",
    lambda s: "" if s.large else "generated code has no check on its buffer (--large)",
)
