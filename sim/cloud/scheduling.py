"""Runs what users have planned: schedules at their minute, scenes task by task (open-api.md §13, §14)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from sim.cloud.commands import send_command
from sim.cloud.scenes import Scene, SceneStatus
from sim.cloud.schedules import Schedule
from sim.cloud.ticking import keep_ticking
from sim.cloud.timetable import parse_timetable

if TYPE_CHECKING:
    from sim.cloud.app_side import AppSide

RETRY_EVERY: Final = 60.0
"""Seconds between two attempts of the old scheduler (§13.1)."""
LATEST: Final = 60.0
"""Seconds after its minute in which a task still runs; later it was missed: the machine slept."""
LONGEST_WAIT: Final = 30.0
"""Seconds that the clock is trusted for: it may be set."""
MAX_SCENES: Final = 1000
"""Scenes that run at once."""


class Scheduling:
    """A task of the cloud.

    :param sleep: Waits so many seconds, between tasks of a scene.
    """

    def __init__(self, side: AppSide, *, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        self._side, self._sleep = side, sleep
        self._changed = asyncio.Event()
        self._scenes: dict[str, asyncio.Task[None]] = {}

    # --- what has to run

    def changed(self) -> None:
        """Something was planned: it may be due before what is waited for."""
        self._changed.set()

    def begin(self) -> None:
        """Pass over what was due while the cloud was down."""
        now = self._side.now()
        for task in self._side.schedules.due(now):
            self._advance(task, now)
        for retry in self._side.schedules.retries_due(now):
            self._side.schedules.set_retry(retry.id, now, 0, ())
        self._side.scenes.interrupted()

    def tick(self) -> float:
        """Run what is due; gives the seconds until the next look."""
        now = self._side.now()
        for task in self._side.schedules.due(now):
            self._advance(task, now)
            if task.next is not None and now - task.next <= LATEST:
                self._run(task, now)
        self._retry(now)
        following = self._side.schedules.earliest()
        return LONGEST_WAIT if following is None else min(LONGEST_WAIT, max(0.0, following - now))

    async def run(self) -> None:
        """Run what is due, until cancelled."""
        self.begin()
        try:
            await keep_ticking(self.tick, self._changed, self._side.hub.complain, longest=LONGEST_WAIT)
        finally:
            running = list(self._scenes.values())
            for scene in running:
                scene.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    def _advance(self, task: Schedule, now: float) -> None:
        self._side.schedules.advance(task.id, parse_timetable(task.content).next_run(now))

    # --- schedules

    def _run(self, task: Schedule, now: float) -> None:
        if task.kind == "old":
            listed = task.content["task"]
            self._attempt(task, range(len(listed)), int(task.content.get("retry_count", 0)), now)
        elif task.did:
            send_command(self._side, task.uid, task.appid, task.did, task.content)
        elif task.group_id:
            self._send_to_group(task.uid, task.appid, task.group_id, task.content)
        elif task.scene_id:
            scene = self._side.scenes.by_id(task.scene_id)
            if scene is not None and scene.uid == task.uid:
                self.start_scene(scene)

    def _attempt(self, task: Schedule, which: Sequence[int], retries: int, now: float) -> None:
        """One attempt of the old scheduler: log it, and plan the next if something failed."""
        listed = task.content["task"]
        done = {
            number: send_command(self._side, task.uid, task.appid, listed[number]["did"], listed[number])
            for number in which
            if number < len(listed)
        }
        self._side.schedules.log(task.id, now, {listed[number]["did"]: good for number, good in done.items()})
        failed = [number for number, good in done.items() if not good]
        again = list(range(len(listed))) if task.content.get("retry_task") == "all" and failed else failed
        self._side.schedules.set_retry(task.id, now + RETRY_EVERY, retries, again)

    def _retry(self, now: float) -> None:
        for retry in self._side.schedules.retries_due(now):
            task = self._side.schedules.by_id(retry.id)
            if task is None:
                self._side.schedules.remove(retry.id)
            else:
                self._attempt(task, retry.failed, retry.remaining - 1, now)

    def _send_to_group(self, uid: str, appid: str, group_id: str, command: Mapping[str, Any]) -> bool:
        dids = self._side.groups.dids(group_id)
        # Every device is sent to, also after one that failed.
        done = [send_command(self._side, uid, appid, did, command) for did in dids]
        return all(done)

    # --- scenes

    def start_scene(self, scene: Scene) -> None:
        """Run a scene in the background; one that runs already goes on as it is."""
        if scene.id in self._scenes or len(self._scenes) >= MAX_SCENES:
            return
        self._side.scenes.set_status(scene.id, SceneStatus.RUNNING)
        task = asyncio.get_running_loop().create_task(self._play(scene))
        self._scenes[scene.id] = task
        task.add_done_callback(lambda _task: self._scenes.pop(scene.id, None))

    def stop_scene(self, number: str) -> None:
        """Stop a scene that runs."""
        task = self._scenes.get(number)
        if task is not None:
            task.cancel()

    async def _play(self, scene: Scene) -> None:
        status = SceneStatus.DONE
        for step in scene.tasks:
            if step["task_type"] == "delay":
                await self._sleep(float(step["time"]))
            elif step["task_type"] == "group":
                good = self._send_to_group(scene.uid, scene.appid, step["group_id"], step)
                status = status if good else SceneStatus.FAILED
            else:
                good = send_command(self._side, scene.uid, scene.appid, step["did"], step)
                status = status if good else SceneStatus.FAILED
        self._side.hub.keep(lambda: self._side.scenes.set_status(scene.id, status))
