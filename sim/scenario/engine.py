"""Runs scenarios: in any event loop, in real or in virtual time (:func:`sim.clock.run_virtual`)."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import math
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final

from gizserial.codec import Codec
from gizserial.commands import FRAMES, Direction, Role
from gizserial.encoding import encode
from gizserial.endpoint import QueueFullError
from gizserial.errors import EncodeError, GizserialError
from gizserial.framing import Frame
from sim.cloud.errors import DeviceError
from sim.faults import Fault, seconds
from sim.faulty import Tap
from sim.scenario.checks import (
    WITHIN,
    check,
    check_step,
    expectation,
    filled,
    needs_simulated,
    send_words,
)
from sim.scenario.grammar import Step
from sim.scenario.log import BabbleError, Seen
from sim.scenario.match import compare_point, is_frame, objections, sender_of, text, wanted
from sim.scenario.model import Scenario
from sim.scenario.nodes import ScenarioError
from sim.scenario.result import Result, StepFailed, StepResult
from sim.scenario.stage import Stage
from sim.words import moment

NOTHING_FOR: Final = 1.0
CLOUD_WITHIN: Final = 5.0
MOST_STEPS: Final = 20_000
"""Steps of one run: a repetition that waits for nothing never reaches the end of time."""
_SHOWN: Final = 12
"""Frames that a failure shows."""
_SLACK: Final = 1e-6
_LOOKS: Final = ("expect", "online")
"""Cloud steps that do nothing: times do not count from them."""

OnStep = Callable[[StepResult], None]


async def run_scenario(
    scenario: Scenario,
    *,
    variables: Mapping[str, Any] | None = None,
    on_step: OnStep | None = None,
    on_begin: Callable[[Step, float], None] | None = None,
    on_seen: Callable[[Seen], None] | None = None,
    on_waiting: Callable[[str], None] | None = None,
    tap: Tap | None = None,
) -> Result:
    """Run a scenario in the running event loop.

    :param variables: Values in place of the scenario's own.
    :param on_begin: Told every step when it begins, and the time.
    :param on_step: Told every step that ended.
    :param on_seen: Told every frame as it was sent.
    :param on_waiting: Told what the device has to open, when nobody is at the port yet.
    :param tap: Told all bytes; see :data:`sim.faulty.Tap`.
    :raises ScenarioError: a step cannot be done with this setup.
    :raises GizserialError: a part of it cannot be made, or the port not be opened.
    """
    unknown = set(variables or ()) - set(scenario.variables)
    if unknown:
        known = ", ".join(scenario.variables) or "none"
        raise ScenarioError(
            f"there is no variable {unknown.pop()!r}; it has: {known}", source=scenario.source
        )
    check(scenario, variables)
    steps: list[StepResult] = []
    async with Stage(scenario.setup, on_seen=on_seen, on_waiting=on_waiting, tap=tap) as stage:
        run = _Run(scenario, stage, steps, on_step, on_begin)
        failed = await run.all({**scenario.variables, **(variables or {})})
        taken = stage.log.now()
    return Result(scenario=scenario, seed=scenario.setup.seed, seconds=taken, steps=steps, failed=failed)


class _Failed(Exception):
    def __init__(self, result: StepResult) -> None:
        self.result = result


class _Branch:
    """Where one sequence of steps stands: what it did last, and when."""

    def __init__(self, variables: dict[str, Any], mark: int, since: float) -> None:
        self.variables = variables
        self.mark, self.since = mark, since

    def copy(self) -> _Branch:
        return _Branch(dict(self.variables), self.mark, self.since)


class _Run:
    def __init__(
        self,
        scenario: Scenario,
        stage: Stage,
        steps: list[StepResult],
        on_step: OnStep | None,
        on_begin: Callable[[Step, float], None] | None,
    ) -> None:
        self._scenario, self._stage, self._log = scenario, stage, stage.log
        self._codec = Codec(scenario.setup.product)
        self._steps, self._on_step, self._on_begin = steps, on_step, on_begin
        self._taken: set[int] = set()
        self._current: Step = scenario.steps[0]
        self._endings: set[asyncio.TimerHandle] = set()
        self._done: Final[dict[str, Callable[[Any, Step, _Branch], Coroutine[Any, Any, None]]]] = {
            "send": self._send,
            "expect": self._expect,
            "set": self._set,
            "press": self._press,
            "wait": self._wait,
            "wifi": self._wifi,
            "cloud": self._cloud,
            "restart": self._restart,
            "fault": self._fault,
            "repeat": self._repeat,
            "parallel": self._parallel,
        }

    async def all(self, variables: dict[str, Any]) -> StepResult | None:
        """Run everything; gives the step that failed."""
        most = self._scenario.setup.max_time
        try:
            async with asyncio.timeout(most) as limit:
                try:
                    await self._stage.connected()
                    if self._scenario.setup.running:
                        await self._stage.running()
                    branch = _Branch(variables, len(self._log.seen), self._log.now())
                    await self._sequence(self._scenario.steps, branch)
                except StepFailed as failure:  # outside of any step: before the first one
                    return self._ended(self._current, self._log.now(), failure)
        except _Failed as failed:
            return failed.result
        except TimeoutError:
            if not limit.expired():
                raise
            late = StepFailed(f"the end of the scenario within {most:g} s (max time)", self._tail())
            return self._ended(self._current, self._log.now(), late)
        except BabbleError as error:
            return self._ended(self._current, self._log.now(), StepFailed("a line in use", [str(error)]))
        finally:
            for ending in self._endings:
                ending.cancel()
        return None

    def _ended(self, step: Step, began: float, failure: StepFailed | None) -> StepResult:
        result = StepResult(step, began, self._log.now() - began, failure)
        self._steps.append(result)
        if self._on_step is not None:
            self._on_step(result)
        return result

    async def _sequence(self, steps: tuple[Step, ...] | list[Step], branch: _Branch) -> None:
        for step in steps:
            self._current = step
            began = self._log.now()
            if self._on_begin is not None:
                self._on_begin(step, began)
            if len(self._steps) >= MOST_STEPS:
                failure = StepFailed(
                    f"at most {MOST_STEPS} steps", ["more; does a repetition wait for nothing?"]
                )
                raise _Failed(self._ended(step, began, failure))
            await self._one(step, branch, began)

    async def _one(self, step: Step, branch: _Branch, began: float) -> None:
        args = step.args if step.kind == "parallel" else filled(step, branch.variables)
        looks = step.kind == "cloud" and isinstance(args, Mapping) and not args.keys().isdisjoint(_LOOKS)
        if step.kind not in {"wait", "expect", "repeat", "parallel"} and not looks:
            branch.mark, branch.since = len(self._log.seen), began
        try:
            self._stage.check()
            if args != step.args:
                check_step(step.kind, args, self._codec)
            await self._done[step.kind](args, step, branch)
            self._stage.check()
        except ScenarioError:
            raise
        except StepFailed as failure:
            raise _Failed(self._ended(step, began, failure)) from None
        except (EncodeError, QueueFullError, ValueError) as error:
            raise _Failed(self._ended(step, began, StepFailed(step.title, [str(error)]))) from None
        self._ended(step, began, None)

    # --- who plays

    def _needs(self, role: Role, step: Step) -> Any:
        part = self._stage.module if role is Role.MODULE else self._stage.mcu
        if part is None:
            raise needs_simulated(step, role.value)
        return part

    # --- steps

    async def _send(self, args: Any, step: Step, _branch: _Branch) -> None:
        if isinstance(args, Mapping) and "hex" in args:
            self._write(bytes.fromhex(args["hex"]), self._sender(args.get("from"), None, step))
            return
        name, words = send_words(args)
        frame = encode(self._codec, name, words)
        given = args if isinstance(args, Mapping) else {}
        spec = FRAMES.get(frame.command)
        named = sender_of(name)
        role = self._sender(given.get("from"), named, step)
        if (
            "sn" in given
            or spec is None
            or spec.is_ack
            or not spec.row.acked
            or spec.sender not in {None, role}
        ):
            sn = given.get("sn", 0)
            self._write(Frame(frame.command, sn, frame.payload, frame.flags).encode(), role)
            return
        part = self._needs(role, step)
        part.role.send(frame.command, frame.payload, now=part.driver.now(), flags=frame.flags)
        part.driver.wake()

    def _sender(self, given: str | None, named: str | None, step: Step) -> Role:
        stage = self._stage
        if given is None and named is None:
            if stage.module is not None and stage.mcu is not None:
                raise ScenarioError("who sends this? add from: module or from: mcu", step.place)
            named = "module" if stage.module is not None else "mcu"
        role = Role(given or named)
        self._needs(role, step)
        return role

    def _write(self, wire: bytes, role: Role) -> None:
        part = self._stage.module if role is Role.MODULE else self._stage.mcu
        if part is not None:
            part.driver.transport.write(wire)

    async def _set(self, args: Mapping[str, Any], step: Step, _branch: _Branch) -> None:
        mcu = self._needs(Role.MCU, step)
        mcu.role.set_values(args, now=mcu.driver.now())
        mcu.driver.wake()

    async def _press(self, button: str, step: Step, _branch: _Branch) -> None:
        mcu = self._needs(Role.MCU, step)
        role, now = mcu.role, mcu.driver.now()
        if button in {"softap", "airlink"}:
            role.provision(1 if button == "softap" else 2, now=now)
        else:
            ask = {
                "reset": role.reset_module,
                "bind": role.open_bind_window,
                "test": role.start_test,
                "time": role.ask_time,
                "info": role.ask_module_info,
                "restart": role.restart_module,
            }[button]
            ask(now=now)
        mcu.driver.wake()

    async def _wait(self, duration: Any, _step: Step, _branch: _Branch) -> None:
        await self._log.until(lambda: False, self._log.now() + _time(duration))

    async def _wifi(self, args: Any, step: Step, _branch: _Branch) -> None:
        module = self._needs(Role.MODULE, step)
        role, around, now = module.role, module.around, module.driver.now()
        if args == "join":
            around.network.known = True
            role.give_access_point(around.network.ssid, around.network.password, now=now)
        elif args == "lost":
            around.lose_router()
        elif isinstance(args, str):
            role.provision(args, now=now)
        else:
            if "apps" in args:
                role.set_apps(args["apps"], now=now)
            if "signal" in args:
                around.network.strength = args["signal"]
                if role.status.router:
                    role.set_router(True, now=now, strength=args["signal"])
            if "phone" in args:
                phone = args["phone"]
                around.network.phone_s = None if phone is False else 3.0 if phone is True else _time(phone)
            if "ap" in args:
                ap = args["ap"]
                role.give_access_point(ap["ssid"], ap.get("password", ""), now=now)
        module.driver.wake()

    async def _restart(self, who: str, step: Step, _branch: _Branch) -> None:
        module = self._needs(Role.MODULE, step)
        now = module.driver.now()
        if who == "module":
            module.role.reboot("asked for by the scenario", now=now)
        else:
            module.role.restart_mcu(now=now)
        module.driver.wake()

    async def _fault(self, args: Any, _step: Step, _branch: _Branch) -> None:
        faults = self._stage.faults
        if args == "clear":
            faults.clear()
            return
        specs = [args] if isinstance(args, str) else args["on"]
        numbers = [faults.add(_from_now(spec, self._log.now())) for spec in specs]
        if not isinstance(args, str) and "for" in args:

            def over() -> None:
                for number in numbers:
                    faults.remove(number)

            loop = asyncio.get_running_loop()
            self._endings.add(loop.call_later(_time(args["for"]), over))

    # --- the cloud

    async def _cloud(self, args: Any, step: Step, _branch: _Branch) -> None:
        module = self._needs(Role.MODULE, step)
        stage = self._stage
        if isinstance(args, str):
            self._connection(args)
        elif "fault" in args:
            stage.cloud_faults.add_now(args["fault"])
        elif "time" in args:
            if not stage.is_online:
                raise StepFailed("a device on line, to be given the time", ["it is off line"])
            module.role.set_time(moment(args["time"]), now=module.driver.now())
        elif "online" in args:
            wanted_state = args["online"]
            await self._cloud_until(
                lambda: stage.is_online == wanted_state,
                args,
                f"the device {'on' if wanted_state else 'off'} line",
                lambda: [f"it is {'on' if stage.is_online else 'off'} line"],
            )
        elif "expect" in args:
            await self._cloud_until(
                lambda: not self._cloud_objections(args["expect"]),
                args,
                f"in the cloud {wanted({'values': args['expect']})}",
                lambda: self._cloud_objections(args["expect"]),
            )
        else:
            await self._app_control(args["control"], module)

    def _connection(self, word: str) -> None:
        stage = self._stage
        if stage.cloud is None:
            stage.pretend_cloud(on=word == "connect")
        elif word == "connect":
            stage.cloud_faults.clear()
        elif word == "cut":
            stage.cloud_faults.cut()
        else:
            stage.cloud_faults.add("refuse")

    async def _app_control(self, values: Mapping[str, Any], module: Any) -> None:
        stage, product = self._stage, self._scenario.setup.product
        if not stage.is_online:
            raise StepFailed("a device on line, for an app to control", ["it is off line"])
        p0 = stage.p0.control({name: product.point(name).raw(value) for name, value in values.items()})
        if stage.cloud is None:
            module.send_p0(p0, "control")
            return
        try:
            await stage.cloud.hub.control(module.session.identity.did, p0)
        except DeviceError as error:
            raise StepFailed("a device that acknowledges the control", [str(error), *self._tail()]) from None

    async def _cloud_until(
        self, condition: Callable[[], bool], args: Mapping[str, Any], what: str, why: Callable[[], list[str]]
    ) -> None:
        within = _time(args.get("within", CLOUD_WITHIN))
        if not await self._log.until(condition, self._log.now() + within):
            raise StepFailed(f"{what} within {within:g} s", [*why(), *self._tail()])

    def _cloud_objections(self, expected: Mapping[str, Any]) -> list[str]:
        return self._value_objections(expected, self._stage.cloud_values)

    def _value_objections(self, expected: Mapping[str, Any], raw: Mapping[str, int | bytes]) -> list[str]:
        product = self._scenario.setup.product
        found: list[str] = []
        for name, value in expected.items():
            if name not in raw:
                found.append(f"{name} is not known")
            else:
                now = product.point(name).value(raw[name])
                found += compare_point(name, now, raw[name], value, product)
        return found

    # --- expectations

    async def _expect(self, args: Any, step: Step, branch: _Branch) -> None:
        spec = expectation(args)
        if "nothing" in spec:
            await self._expect_nothing(spec)
        elif "values" in spec:
            mcu = self._needs(Role.MCU, step)
            within = _time(spec.get("within", WITHIN))
            if not await self._log.until(
                lambda: not self._value_objections(spec["values"], mcu.role.raw), branch.since + within
            ):
                why = self._value_objections(spec["values"], mcu.role.raw)
                raise StepFailed(f"in the MCU {wanted(spec)} within {within:g} s", [*why, *self._tail()])
        elif "count" in spec:
            await self._expect_count(spec, branch)
        else:
            await self._expect_frame(spec, branch)

    def _candidates(self, spec: Mapping[str, Any], name: str, mark: int) -> list[Seen]:
        arrived = spec.get("arrived", False)
        direction = _direction(spec, name)
        return [
            seen
            for seen in self._log.seen[mark:]
            if seen.arrived == arrived
            and direction in {None, seen.direction}
            and is_frame(seen.described, name)
        ]

    async def _expect_frame(self, spec: Mapping[str, Any], branch: _Branch) -> None:
        name = spec["frame"]
        product = self._scenario.setup.product
        within = _time(spec.get("within", WITHIN))
        least = _time(spec.get("not before", 0.0))
        found: list[Seen] = []

        def came() -> bool:
            for seen in self._candidates(spec, name, branch.mark):
                if seen.number not in self._taken and not objections(seen.described, spec, product):
                    found.append(seen)
                    return True
            return False

        deadline = branch.since + within
        # What came in time counts, however late the step that asks for it begins.
        if not await self._log.until(came, deadline) or found[0].t > deadline + _SLACK:
            raise StepFailed(
                self._frame_wanted(spec, within, least), self._instead(spec, name, branch, found)
            )
        seen = found[0]
        if seen.t < branch.since + least - _SLACK:
            early = f"it came after {seen.t - branch.since:.3f} s: too early"
            raise StepFailed(self._frame_wanted(spec, within, least), [early, seen.line])
        self._taken.add(seen.number)

    @staticmethod
    def _frame_wanted(spec: Mapping[str, Any], within: float, least: float) -> str:
        early = f", not before {least:g} s" if least else ""
        return f"{wanted(spec)} within {within:g} s{early}"

    def _instead(self, spec: Mapping[str, Any], name: str, branch: _Branch, found: list[Seen]) -> list[str]:
        if found:
            late = f"it came after {found[0].t - branch.since:.3f} s: too late"
            return [late, found[0].line]
        product = self._scenario.setup.product
        lines: list[str] = []
        for seen in self._candidates(spec, name, branch.mark)[-_SHOWN:]:
            why = "; ".join(objections(seen.described, spec, product))
            if seen.number in self._taken:
                why = "an earlier step expected it"
            lines.append(f"{seen.line}  <- {why}")
        return lines or [f"no {name}", *self._tail(branch.mark, arrived=spec.get("arrived", False))]

    async def _expect_count(self, spec: Mapping[str, Any], branch: _Branch) -> None:
        name, count = spec["frame"], spec["count"]
        product = self._scenario.setup.product
        within = _time(spec.get("within", WITHIN))
        least = _time(spec.get("not before", 0.0))
        deadline = branch.since + within

        def matching() -> list[Seen]:
            return [
                seen
                for seen in self._candidates(spec, name, branch.mark)
                if seen.number not in self._taken
                and branch.since + least - _SLACK <= seen.t <= deadline + _SLACK
                and not objections(seen.described, spec, product)
            ]

        await self._log.until(lambda: len(matching()) > count, deadline)
        found = matching()
        if len(found) != count:
            expected = f"{count} times {self._frame_wanted(spec, within, least)}"
            shown = [seen.line for seen in found[-_SHOWN:]]
            raise StepFailed(expected, [f"{len(found)} times", *(shown or self._tail(branch.mark))])
        self._taken.update(seen.number for seen in found)

    async def _expect_nothing(self, spec: Mapping[str, Any]) -> None:
        name = spec["nothing"]
        product = self._scenario.setup.product
        duration = _time(spec.get("for", NOTHING_FOR))
        mark, began = len(self._log.seen), self._log.now()
        ways = [
            (role.direction, spec.get("arrived", False))
            for role in Role
            if spec.get("from", role.value) == role.value
        ]
        before = [self._log.bytes[way] for way in ways]
        anything = name == "any" and not spec.keys() & {"attrs", "fields", "sn"}
        found: list[Seen] = []

        def came() -> bool:
            if anything and [self._log.bytes[way] for way in ways] != before:
                found[:] = self._candidates(spec, name, mark)
                return True
            found[:] = [
                seen
                for seen in self._candidates(spec, name, mark)
                if not objections(seen.described, spec, product)
            ]
            return bool(found)

        if await self._log.until(came, began + duration):
            what = wanted({**spec, "frame": "nothing at all" if name == "any" else f"no {name}"})
            lines = [seen.line for seen in found] or ["bytes, the beginning of a frame"]
            raise StepFailed(f"{what} for {duration:g} s", lines)

    def _tail(self, mark: int = 0, *, arrived: bool = False) -> list[str]:
        lines = [seen.line for seen in self._log.seen[mark:] if seen.arrived == arrived]
        return lines[-_SHOWN:] or ["nothing on the line"]

    # --- steps of steps

    async def _repeat(self, given: Mapping[str, Any], step: Step, branch: _Branch) -> None:
        times = given.get("times", math.inf)
        end = self._log.now() + _time(given["for"]) if "for" in given else math.inf
        number = 0
        while number < times and self._log.now() < end - _SLACK:
            number += 1
            branch.mark, branch.since = len(self._log.seen), self._log.now()  # each round begins anew
            if "as" in given:
                branch.variables[given["as"]] = number
            await self._sequence(step.args["steps"], branch)

    async def _parallel(self, branches: list[list[Step]], _step: Step, branch: _Branch) -> None:
        tasks = [
            asyncio.ensure_future(self._sequence(steps, branch.copy()))
            for steps in branches
            if not _endless(steps)
        ]
        endless = [
            asyncio.ensure_future(self._sequence(steps, branch.copy()))
            for steps in branches
            if _endless(steps)
        ]
        waiting = set(tasks) or set(endless)
        try:
            while waiting:
                done, _ = await asyncio.wait({*waiting, *endless}, return_when=asyncio.FIRST_COMPLETED)
                for task in (*tasks, *endless):  # a set would give another failure in every run
                    if task in done:
                        task.result()
                waiting -= done
        finally:
            for task in (*tasks, *endless):
                task.cancel()
            with contextlib.suppress(GizserialError):
                await asyncio.gather(*tasks, *endless, return_exceptions=True)
        branch.mark, branch.since = len(self._log.seen), self._log.now()


def _endless(steps: list[Step]) -> bool:
    """Whether a branch never ends by itself: it ends with the others."""
    return any(step.kind == "repeat" and step.args.get("forever") for step in steps)


def _direction(spec: Mapping[str, Any], name: str) -> Direction | None:
    given = spec.get("from") or (sender_of(name) if name not in {"any", "noise", "error"} else None)
    return Role(given).direction if given else None


def _time(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else seconds(text(value))


def _from_now(spec: str, now: float) -> Any:
    """A fault whose times count from the step, not from the opening of the line."""
    fault = Fault.parse(spec)
    return dataclasses.replace(fault, start=fault.start + now if fault.start else 0.0, end=fault.end + now)
