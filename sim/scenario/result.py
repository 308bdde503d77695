"""How a run went."""

from __future__ import annotations

import dataclasses
from typing import Any

from gizserial.errors import GizserialError
from sim.scenario.grammar import Step
from sim.scenario.model import Scenario


class StepFailed(GizserialError):
    """A step did not go as it should.

    :ivar expected: What was expected.
    :ivar came: What came instead, line by line.
    """

    def __init__(self, expected: str, came: list[str] | None = None) -> None:
        self.expected = expected
        self.came = came or []
        super().__init__(expected)


@dataclasses.dataclass(frozen=True, slots=True)
class StepResult:
    """One step that was done; in a repetition there are several of the same step."""

    step: Step
    t: float
    """When it began, in seconds since the line was opened."""
    seconds: float
    failure: StepFailed | None = None

    def to_json(self) -> dict[str, Any]:
        """The object of ``--json``."""
        place = self.step.place
        members: dict[str, Any] = {
            "kind": "step",
            "t": round(self.t, 6),
            "seconds": round(self.seconds, 6),
            "source": place.source,
            "line": place.line,
            "column": place.column,
            "step": self.step.title,
            "passed": self.failure is None,
        }
        if self.failure is not None:
            members |= {"expected": self.failure.expected, "came": self.failure.came}
        return members


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A run that has ended."""

    scenario: Scenario
    seed: int
    seconds: float
    """Virtual ones, when time was."""
    steps: list[StepResult]
    failed: StepResult | None = None
    """The step that ended it."""

    @property
    def passed(self) -> bool:
        """Everything went as it should."""
        return self.failed is None

    @property
    def summary(self) -> str:
        """What a person can act on."""
        if self.failed is None or self.failed.failure is None:
            count = len(self.steps)
            return f"{self.scenario.source}: passed, {count} steps, {self.seconds:.1f} s, seed {self.seed}"
        failure = self.failed.failure
        lines = [
            f"{self.failed.step.place}: {self.failed.step.title}: failed at {self.failed.t:.3f} s",
            f"  expected: {failure.expected}",
        ]
        lines += ["  came:", *(f"    {line}" for line in failure.came)] if failure.came else []
        return "\n".join([*lines, f"  repeat it with --seed {self.seed}"])

    def to_json(self) -> dict[str, Any]:
        """The object of ``--json``."""
        return {
            "kind": "result",
            "source": self.scenario.source,
            "scenario": self.scenario.title,
            "passed": self.passed,
            "steps": len(self.steps),
            "seconds": round(self.seconds, 6),
            "seed": self.seed,
        }
