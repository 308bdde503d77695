"""What ``gizserial lan`` does with answers that do not come: a command on the client's machine."""

from __future__ import annotations

import asyncio
import socket
from typing import cast

import pytest

from gizserial.cli.lan_session import Control, Raw, Task
from gizserial.errors import TransportError
from gizserial.io.lan import LanSession, _reason
from gizserial.lan.client import ANSWER_TIME, LanClient, Send
from gizserial.lan.commands import LanCommand
from gizserial.lan.framing import decode_datagram, encode_frame
from gizserial.m2m.frames import BusinessFrame

P0 = b"\x01\x01\x01"


class Bench:
    """A task that is logged in at a module, at a time of our own."""

    def __init__(self, task: Task) -> None:
        self.task, self.time = task, 0.0
        self.client = LanClient("IPQRSTUVWX")
        task.session = cast("LanSession", self)
        task.done = asyncio.get_running_loop().create_future()
        self.client.start(0.0)
        self.client.connected(0.0)
        self.pump()
        self.say(LanCommand.LOGIN_REPLY, b"\0")

    def now(self) -> float:
        return self.time

    def pump(self) -> list[BusinessFrame]:
        """What the task sends."""
        sent: list[BusinessFrame] = []
        while effects := self.client.effects():
            for effect in effects:
                if isinstance(effect, Send):
                    frame = decode_datagram(effect.data)
                    assert frame is not None
                    sent.append(frame)
                else:
                    self.task.happened(effect)
        self.sent = sent
        return sent

    def say(self, command: int, body: bytes = b"", sn: int | None = None) -> list[BusinessFrame]:
        self.client.data(encode_frame(command, body, sn), self.time)
        return self.pump()

    def pass_answer_time(self) -> list[BusinessFrame]:
        """The module answers heartbeats, but no requests."""
        until, sent = self.time + ANSWER_TIME, []
        while self.time < until:
            self.time += 1.0
            self.client.handle_timeout(self.time)
            sent += self.pump()
            sent += self.say(LanCommand.HEARTBEAT_REPLY)
        return [frame for frame in sent if frame.command != LanCommand.HEARTBEAT]

    @property
    def status(self) -> int:
        assert self.task.done is not None
        return self.task.done.result()


async def test_a_module_that_knows_no_0093_is_controlled_with_0090(
    capsys: pytest.CaptureFixture[str],
) -> None:
    bench = Bench(Control(P0, as_json=False, show_passcode=False))
    assert [frame.command for frame in bench.sent] == [LanCommand.CONTROL_ACKED]
    (plain,) = bench.pass_answer_time()
    assert (plain.command, plain.payload) == (LanCommand.CONTROL, P0)
    bench.say(LanCommand.REPORT)  # the empty 0091 of C8
    assert bench.status == 0
    out, err = capsys.readouterr()
    assert out == "done: acknowledged with 0091\n"
    assert err == "0093: no answer for 5 s; trying 0090\n"


async def test_a_device_that_acknowledges_neither_is_a_finding(capsys: pytest.CaptureFixture[str]) -> None:
    bench = Bench(Control(P0, as_json=False, show_passcode=False))
    assert len(bench.pass_answer_time()) == 1
    bench.say(LanCommand.REPORT, b"\x04\x01")  # a report of its own acknowledges nothing
    assert bench.pass_answer_time() == []
    assert bench.status == 1
    assert "does not acknowledge" in capsys.readouterr().out


@pytest.mark.parametrize("plain", [False, True])
async def test_a_session_that_ends_is_no_reason_to_try_0090(
    plain: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    bench = Bench(Control(P0, as_json=False, show_passcode=False))
    if plain:
        bench.pass_answer_time()
    capsys.readouterr()
    bench.client.closed("the module closed the connection", bench.time)
    bench.pump()
    with pytest.raises(TransportError, match="the module closed the connection"):
        _ = bench.status
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("error", [socket.gaierror(-2, "Name or service not known"), UnicodeError("label")])
def test_a_name_that_nobody_knows_is_told_as_such(error: Exception) -> None:
    assert _reason(error) == "this machine knows no such address"


async def test_raw_data_in_a_session_that_ends(capsys: pytest.CaptureFixture[str]) -> None:
    bench = Bench(Raw(b"\x02", wait=1.0, as_json=False, show_passcode=False))
    bench.client.closed("the module closed the connection", bench.time)
    bench.pump()
    with pytest.raises(TransportError, match="the module closed the connection"):
        _ = bench.status
    assert capsys.readouterr() == ("", "")
