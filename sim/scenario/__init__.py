"""Scenarios: what happens to a module and an MCU, step by step, and what is expected of them.

::

    scenario = Scenario.load("fixtures/scenarios/control.yaml")
    result = run_virtual(run_scenario(scenario))
    assert result.passed, result.summary
"""

from sim.scenario.engine import run_scenario
from sim.scenario.grammar import Step
from sim.scenario.model import Scenario, Setup
from sim.scenario.nodes import ScenarioError
from sim.scenario.result import Result, StepFailed

__all__ = ["Result", "Scenario", "ScenarioError", "Setup", "Step", "StepFailed", "run_scenario"]
