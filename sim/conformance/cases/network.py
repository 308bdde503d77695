"""Network: status bits, time, provisioning and reset, restarts on either side (serial.md §3.3, §4, §6.5)."""

from __future__ import annotations

from gizserial import schemas
from gizserial.commands import FRAMES, Command
from gizserial.errors import BodyError
from sim.conformance.bench import Bench, Press
from sim.conformance.cases.framing import pushed
from sim.conformance.cases.registry import MAY, MUST, SHOULD, Group
from sim.conformance.exchanges import CONNECTED, OFFLINE
from sim.conformance.model import PERSON, POINTS, WRITABLE, CaseFailedError, Entry
from sim.conformance.thresholds import PERSON as PERSON_TIME
from sim.conformance.thresholds import QUIET, RESTART_PATIENCE, TIME_REQUESTS

_TURNS = 3
_DEFERRED = 2.0
"""An MCU may ask for the time some moments after it heard of the cloud: that is not held against it."""

_TAKES_THE_MODULE_AWAY = frozenset({Command.PROVISION, Command.RESET_MODULE, Command.RESTART_MODULE})

status = Group(
    "status",
    "Look at the handler of 0D: ack first, then look at the bits that are known and ignore the others.",
)
provision = Group(
    "provision",
    "Look at what the button does: 09 with mode 1 (SoftAP) or 2 (AirLink), 0B for a reset, each sent once"
    " and repeated only without ack.",
)
restart = Group(
    "restart",
    "Nothing may depend on what the module said before its restart: no number, no flag that it is"
    " connected, no half-received frame.",
)


@status.case(
    "bits",
    "Every bit of the status word is acked, reserved ones too",
    rule="The MCU shows the state of the network: it must take each combination, also bits that it does "
    "not know.",
    section="3.3, 4.7",
    defects=(
        "status-bit-crashes",
        "ack-missing-status",
    ),
)
async def bits(bench: Bench) -> None:
    words = [1 << bit for bit in range(16)] + [level << 8 | 0x0012 for level in range(8)] + [0x0000, 0x1FFF]
    for word in words:
        frame = bench.command(Command.STATUS, schemas.WIFI_STATUS.build({"status": word}))
        try:
            await bench.exchange(frame)
        except CaseFailedError as failed:
            raise bench.fail(
                f"the status word {word:04X} was not acked", expected="status_ack", got=failed.finding.got
            ) from None
    await bench.push_status(CONNECTED)


@status.case(
    "harmless",
    "A status push changes no value",
    rule="The network comes and goes; the product stays as it was set.",
    section="4.7",
    needs=(WRITABLE,),
    defects=("values-lost-on-status",),
)
async def harmless(bench: Bench) -> None:
    await bench.change()
    before = await bench.read()
    for word in (0x0000, OFFLINE.word, CONNECTED.word):
        await bench.exchange(bench.command(Command.STATUS, schemas.WIFI_STATUS.build({"status": word})))
    now = await bench.read()
    bench.require_unchanged(before, now, "a status push changed values")


@status.case(
    "quiet",
    "Heartbeats, status pushes and 01 draw no report",
    rule="A report is for values that changed, for controls and for every 600 s. One for each push of the"
    " module fills the line and the cloud.",
    remedy="Take the call that reports out of the handlers of 01, 07 and 0D.",
    section="6.6",
    severity=SHOULD,
    needs=(POINTS,),
    defects=("report-on-heartbeat", "report-on-status"),
)
async def quiet(bench: Bench) -> None:
    for command, words in (
        (Command.DEVICE_INFO, (b"",) * _TURNS),
        (Command.HEARTBEAT, (b"",) * _TURNS),
        (Command.STATUS, [pushed(word) for word in (OFFLINE.word, CONNECTED.word, OFFLINE.word)]),
    ):
        drew: list[Entry] = []
        for payload in words:
            await bench.settle()
            since = bench.line.mark()
            await bench.exchange(bench.command(command, payload))
            await bench.line.listen(QUIET)
            drew += [report.entry for report in bench.reports(since)[:1]]
        # A sensor may move at any time; not three times in a second.
        if len(drew) == _TURNS:
            bench.note(
                f"every {FRAMES[command].name} drew a report", expected="only acks", got=drew, entry=drew[0]
            )
    await bench.push_status(CONNECTED)


@status.case(
    "time",
    "The time is asked for only when there is a cloud, and not again and again",
    rule="Without cloud the module knows no time and answers zeros (4.12); bit 5 of the status says when"
    " to ask.",
    remedy="Ask when bit 5 of the status changes to 1, once, and keep the time with a clock of your own.",
    section="4.12, 3.3",
    severity=SHOULD,
    defects=("time-request-without-cloud", "time-request-storm", "status-bits-wrong"),
)
async def time(bench: Bench) -> None:
    await bench.line.listen(_DEFERRED)
    for status_before, what in ((0x0000, "without router"), (OFFLINE.word, "with router, without cloud")):
        await bench.settle()
        since = bench.line.mark()
        await bench.exchange(
            bench.command(Command.STATUS, schemas.WIFI_STATUS.build({"status": status_before}))
        )
        await bench.line.listen(5.0)
        asked = bench.line.frames(since, Command.NETWORK_TIME)
        if asked:
            raise bench.fail(
                f"the MCU asked for the time {what}",
                expected="no 17 while status bit 5 is 0",
                got=asked,
                entry=asked[0],
            )
    since = bench.line.mark()
    await bench.push_status(CONNECTED)
    await bench.line.listen(10.0)
    asked = bench.line.frames(since, Command.NETWORK_TIME)
    if len(asked) > TIME_REQUESTS:
        raise bench.fail(
            f"the MCU asked for the time {len(asked)} times within 10 s, and was answered each time",
            expected="once",
            got=asked,
        )


@status.case(
    "time-zero",
    "An answer without time does no harm",
    rule="Before the cloud has told the time the answer to 17 is all zeros: month 0 and day 0 are no date.",
    remedy="Check year and month before the time is used; zeros mean that there is none yet.",
    section="4.12, R17",
    severity=SHOULD,
    defects=("time-zero-crashes",),
)
async def time_zero(bench: Bench) -> None:
    since = bench.line.mark()
    was, bench.line.utc = bench.line.utc, lambda: None
    try:
        await bench.push_status(OFFLINE)
        await bench.push_status(CONNECTED)
        await bench.line.until(lambda: bench.line.frames(since, Command.NETWORK_TIME), 3.0)
        await bench.line.listen(QUIET)
    finally:
        bench.line.utc = was
    await bench.alive("an answer without time")


# --- provisioning, reset


async def _mode(bench: Bench, press: Press, mode: int) -> None:
    entry = await bench.pressed(press, Command.PROVISION)
    payload = entry.frame.payload if entry.frame is not None else b""
    try:
        fields = schemas.PROVISION.parse(payload)
    except BodyError as error:
        raise bench.fail(
            f"the provisioning command is unreadable: {error}", got=[entry], entry=entry
        ) from None
    if fields["mode"] != mode:
        raise bench.fail(
            "provisioning was asked for in another mode", expected=f"mode {mode}", got=[entry], entry=entry
        )
    since = bench.line.mark()
    await bench.line.listen(1.0)
    if any(e.frame == entry.frame for e in bench.line.frames(since, Command.PROVISION)):
        raise bench.fail("09 was sent again although it was acked", expected="one command", got=[entry])
    for word in (0x0005 if mode == 1 else 0x0004, 0x0002, 0x0012, CONNECTED.word):
        await bench.exchange(bench.command(Command.STATUS, schemas.WIFI_STATUS.build({"status": word})))


@provision.case(
    "soft-ap",
    "A person can start SoftAP provisioning",
    rule="The device is brought into the user's network; the module acks 09 and pushes what it does.",
    section="4.5, 6.5",
    needs=(PERSON,),
    defects=("provision-wrong-mode",),
)
async def soft_ap(bench: Bench) -> None:
    await _mode(bench, Press.SOFT_AP, 1)


@provision.case(
    "airlink",
    "A person can start AirLink provisioning",
    rule="As SoftAP, with the router's data broadcast by the phone.",
    section="4.5, 6.5",
    needs=(PERSON,),
    defects=("provision-wrong-mode",),
)
async def airlink(bench: Bench) -> None:
    await _mode(bench, Press.AIRLINK, 2)


@provision.case(
    "reset",
    "A person can reset the module",
    rule="0B makes the module forget router and bindings and restart: after two seconds it asks 01 again"
    " and pushes 0004 or 0005.",
    section="4.6, 6.5",
    needs=(PERSON,),
    defects=("module-restart-confuses",),
)
async def reset(bench: Bench) -> None:
    await bench.pressed(Press.RESET, Command.RESET_MODULE)
    await bench.line.listen(2.0)
    bench.line.restart_sn()
    await bench.exchange(bench.command(Command.DEVICE_INFO))
    await bench.exchange(bench.command(Command.STATUS, schemas.WIFI_STATUS.build({"status": 0x0005})))
    await bench.push_status(CONNECTED)


@provision.case(
    "unasked",
    "The module is provisioned, reset or restarted only when somebody wants it",
    rule="09 takes the module out of its network, 0B makes it forget its owner too. No document forbids it,"
    " but a router that is off for a minute is no reason.",
    remedy="Send 09, 0B and 29 when a button is pressed, and not because of a status word.",
    section="4.5, 4.6",
    severity=MAY,
    defects=("provisions-without-router",),
    observes=True,
)
async def unasked(bench: Bench) -> None:
    for entry in bench.line.commands():
        frame = entry.frame
        if frame is None or frame.command not in _TAKES_THE_MODULE_AWAY:
            continue
        if not any(0 <= entry.time - asked <= PERSON_TIME for asked in bench.asked):
            bench.note(
                f"{FRAMES[frame.command].name} came, and nobody had been asked to press a button",
                expected="nothing",
                got=[entry],
                entry=entry,
            )


# --- restarts


@restart.case(
    "module",
    "A module that restarts finds the MCU as it was",
    rule="The module may restart at any time: it asks 01 with number 0 again. Values stay, controls work.",
    section="1.4, 4.1, 6.1",
    defects=("module-restart-confuses", "info-once-only", "values-lost-on-module-restart"),
)
async def module(bench: Bench) -> None:
    await bench.change()
    before = await bench.read() if bench.product.points else {}
    await bench.line.listen(1.5)
    try:
        await bench.restarted()
    except CaseFailedError as failed:
        raise bench.fail(
            "after a restart of the module the MCU does not answer its 01 and its status",
            expected="device_info_ack, status_ack",
            got=failed.finding.got,
        ) from None
    if before:
        bench.require_unchanged(before, await bench.read(), "the restart of the module changed values")


@restart.case(
    "in-the-middle",
    "A module that restarts in the middle of an exchange finds an MCU that works",
    rule="It may go away while the MCU waits for an ack; what the MCU repeats meets a module that has "
    "just begun.",
    section="1.8, 6.1",
    needs=(WRITABLE,),
    defects=("stuck-after-give-up", "module-restart-confuses"),
)
async def in_the_middle(bench: Bench) -> None:
    point = bench.point
    with bench.line.withhold(Command.P0_FROM_MCU):
        await bench.control(bench.others(point))
        wire = bench.command(Command.HEARTBEAT).encode()
        bench.line.send_wire(wire[:6], note="the module goes away in the middle of a frame")
        await bench.line.sent_all()
        await bench.line.listen(1.5)
    await bench.restarted()
    await bench.settle()
    await bench.set_and_check(bench.others(point), "a control after the restart")


@restart.case(
    "mcu",
    "A request to restart is acked first, and the MCU is back soon",
    rule="0F is acked, the ack leaves (generated code waits 600 ms), then the MCU restarts; it may also "
    "ignore the request. Either way it answers 01 afterwards.",
    remedy="Ack 0F, let the ack leave, then restart; if the MCU does not come back, look at what waits for"
    " the module at start.",
    section="4.8, R36",
    defects=(
        "restart-unacked",
        "restart-loses-line",
    ),
    severity=MUST,
)
async def mcu(bench: Bench) -> None:
    kept = dict(bench.values)
    frame = bench.command(Command.RESTART_MCU)
    await bench.acked(frame)
    await bench.line.listen(1.0)
    deadline = bench.line.now() + RESTART_PATIENCE
    while True:
        try:
            await bench.restarted()
            break
        except CaseFailedError as failed:
            if bench.line.now() >= deadline:
                raise bench.fail(
                    f"the MCU did not come back within {RESTART_PATIENCE:g} s after it was told to restart",
                    expected="an answer to 01",
                    got=failed.finding.got,
                ) from None
    await bench.settle()
    if bench.product.points:
        await bench.first_values()
        if bench.writable:
            await bench.put_back(kept)
