"""How cases are declared: a group, and a decorator that makes a :class:`Case` of a coroutine."""

from __future__ import annotations

from collections.abc import Callable

from sim.conformance.model import Case, CaseFunction, Need, Severity

MUST, SHOULD, MAY = Severity.MUST, Severity.SHOULD, Severity.MAY


class Group:
    """Cases with one theme, in the order in which they run.

    :param name: First part of their ids.
    :param remedy: Where to look in the firmware when one fails, unless the case says it better.
    """

    def __init__(self, name: str, remedy: str) -> None:
        self.name = name
        self.remedy = remedy
        self.cases: list[Case] = []

    def case(
        self,
        name: str,
        title: str,
        *,
        rule: str,
        section: str,
        severity: Severity = MUST,
        needs: tuple[Need, ...] = (),
        defects: tuple[str, ...] = (),
        observes: bool = False,
        remedy: str = "",
    ) -> Callable[[CaseFunction], CaseFunction]:
        """Declare the decorated coroutine as a case of the group."""

        def declare(run: CaseFunction) -> CaseFunction:
            self.cases.append(
                Case(
                    id=f"{self.name}.{name}",
                    title=title,
                    rule=rule,
                    section=section,
                    severity=severity,
                    run=run,
                    needs=needs,
                    defects=defects,
                    observes=observes,
                    remedy=remedy or self.remedy,
                )
            )
            return run

        return declare
