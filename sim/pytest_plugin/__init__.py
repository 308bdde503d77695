"""The pytest plugin: tests of firmware against our module, our MCU and our cloud (docs/pytest.md).

Loaded by every pytest run on a machine that has gizserial; so nothing but pytest itself is imported here
until a test asks for one of the fixtures.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from typing import TYPE_CHECKING, Final, TypeVar

import pytest

from sim.pytest_plugin import settings as _settings

if TYPE_CHECKING:
    from types import TracebackType

    from gizserial.product import Product

    # "as": for the annotations of users' tests too.
    from sim.pytest_plugin.bench import PortUnderTest as PortUnderTest
    from sim.pytest_plugin.cloud import TestCloud as TestCloud
    from sim.pytest_plugin.mcu import McuStation as McuStation
    from sim.pytest_plugin.module import ModuleStation as ModuleStation
    from sim.pytest_plugin.stage import Stage as Stage

SHOWN: Final = 20
"""Frames that the report of a failed test shows."""
_SETTINGS: Final = pytest.StashKey[_settings.Settings]()
_PORT: Final = pytest.StashKey["PortUnderTest"]()
_WRITTEN: Final = pytest.StashKey[str]()
_OURS: Final = ("gizserial", "sim")
_ON_THE_PORT: Final = frozenset({"gizwits_port", "gizwits_module", "gizwits_mcu"})


StationT = TypeVar("StationT")


# --- hooks


def pytest_addoption(parser: pytest.Parser) -> None:
    """Our options."""
    _settings.declare(parser)


def pytest_configure(config: pytest.Config) -> None:
    """Check what the user set."""
    config.stash[_SETTINGS] = _settings.read(config)


def pytest_report_header(config: pytest.Config) -> str | None:
    """Say what is tested, when something was set."""
    settings = config.stash[_SETTINGS]
    if not settings.port and settings.product is None:
        return None
    where = f"{settings.port} at {settings.baud} baud" if settings.port else "simulated"
    return f"gizwits: {where}" + (f", product {settings.product.name}" if settings.product else "")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With ``--dist loadgroup`` one worker has the real port; else its lock lets one test in at a time."""
    if not config.stash[_SETTINGS].port or config.getoption("dist", default=None) is None:
        return
    for item in items:
        if not _ON_THE_PORT.isdisjoint(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.xdist_group("gizwits_port"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Attach the capture of a test that failed; a mistake in a call of ours ends at the user's line."""
    port = item.stash.get(_PORT, None)
    if port is not None and call.excinfo is not None and not item.config.getoption("fulltrace"):
        _cut(call.excinfo)
    report = yield
    if port is not None and report.failed:
        _attach(item, report, port)
    return report


def _attach(item: pytest.Item, report: pytest.TestReport, port: PortUnderTest) -> None:
    from gizserial.errors import GizserialError
    from sim.pytest_plugin.names import capture_path

    if item.stash.get(_WRITTEN, None) is not None:
        return
    path = capture_path(item.config.stash[_SETTINGS].capture_dir, item.nodeid, _worker(item.config))
    if len(port.recorder):
        lines = port.recorder.last_frames(SHOWN)
        try:
            port.write_capture(path)
        except (GizserialError, OSError) as error:
            lines.append(f"the capture was not written: {error}")
        else:
            lines.append(f"capture: {path}")
            item.user_properties.append(("gizwits_capture", str(path)))
            report.user_properties.append(("gizwits_capture", str(path)))
    else:
        lines = ["nothing crossed the line"]
    item.stash[_WRITTEN] = str(path)
    report.sections.append((f"gizwits line ({port})", "\n".join(lines)))


def _cut(raised: pytest.ExceptionInfo[BaseException]) -> None:
    """A refused name or value is explained by its sentence, not by our own lines."""
    from gizserial.errors import GizserialError

    if not isinstance(raised.value, GizserialError):
        return
    link: TracebackType | None = raised.tb
    while link is not None and link.tb_next is not None:
        if not _named(link, *_OURS, "_pytest", "pluggy") and _named(link.tb_next, *_OURS):
            link.tb_next = None
        link = link.tb_next


def _named(link: TracebackType, *packages: str) -> bool:
    return str(link.tb_frame.f_globals.get("__name__", "")).partition(".")[0] in packages


def _worker(config: pytest.Config) -> str:
    """Name of the xdist worker; empty without one."""
    worker: dict[str, str] = getattr(config, "workerinput", {})
    return worker.get("workerid", "")


# --- fixtures


@pytest.fixture(scope="session")
def gizwits_product(pytestconfig: pytest.Config) -> Product:
    """The product definition of ``--gizwits-product``. A conftest may have a fixture of its own instead."""
    path = pytestconfig.stash[_SETTINGS].product
    if path is None:
        pytest.fail(
            "this test needs a product definition: give --gizwits-product FILE, "
            "or set gizwits_product in the configuration file",
            pytrace=False,
        )
    return _settings.load(path)


@pytest.fixture
def gizwits_stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    """The event loop of the simulators, in a thread of its own; virtual with ``gizwits_clock``."""
    from sim.pytest_plugin.stage import RealStage, VirtualStage

    virtual = "gizwits_clock" in request.fixturenames
    if virtual and request.config.stash[_SETTINGS].port:
        pytest.skip("a real board has no virtual time (gizwits_clock with --gizwits-port)")
    stage: Stage = VirtualStage() if virtual else RealStage()
    try:
        yield stage
    finally:
        stage.close()


@pytest.fixture
def gizwits_clock(gizwits_stage: Stage) -> Stage:
    """Virtual time for this test: ``gizwits_clock.wait(600)`` takes no time. Simulated peers only."""
    return gizwits_stage


@pytest.fixture
def gizwits_port(
    request: pytest.FixtureRequest, gizwits_stage: Stage, gizwits_product: Product
) -> Iterator[PortUnderTest]:
    """The line of this test: ``--gizwits-port``, or a line in memory with a simulated peer."""
    from sim.pytest_plugin.bench import PortUnderTest
    from sim.pytest_plugin.names import forget_old
    from sim.pytest_plugin.tap import Recorder

    item = request.node
    settings = request.config.stash[_SETTINGS]
    forget_old(settings.capture_dir, item.nodeid)
    port = PortUnderTest(
        url=settings.port,
        baud=settings.baud,
        stage=gizwits_stage,
        product=gizwits_product,
        recorder=Recorder(item.nodeid, gizwits_product),
    )
    if settings.port and {"gizwits_module", "gizwits_mcu"} <= set(request.fixturenames):
        pytest.skip("a test of our module with our MCU has no place for a board (--gizwits-port)")
    item.stash[_PORT] = port
    try:
        yield port
    finally:
        port.close()


@pytest.fixture
def gizwits_mcu(request: pytest.FixtureRequest, gizwits_port: PortUnderTest) -> McuStation:
    """Our MCU against the module under test; without a port a simulated module."""
    station = _opened(gizwits_port.mcu)
    if gizwits_port.simulated and "gizwits_module" not in request.fixturenames:
        _opened(gizwits_port.module).meet(station)
    return station


@pytest.fixture
def gizwits_module(request: pytest.FixtureRequest, gizwits_port: PortUnderTest) -> ModuleStation:
    """Our module against the board under test, the handshake done; without a port a simulated MCU."""
    cloud = request.getfixturevalue("gizwits_cloud") if "gizwits_cloud" in request.fixturenames else None
    station = _opened(lambda: gizwits_port.module(cloud))
    if gizwits_port.simulated:
        ours = "gizwits_mcu" in request.fixturenames
        station.meet(request.getfixturevalue("gizwits_mcu") if ours else _opened(gizwits_port.mcu))
    station.wait_handshake(timeout=request.config.stash[_SETTINGS].timeout)
    return station


@pytest.fixture
def gizwits_cloud(
    request: pytest.FixtureRequest, gizwits_stage: Stage, gizwits_product: Product
) -> Iterator[TestCloud]:
    """An embedded cloud; the module of ``gizwits_module`` registers with it."""
    from sim.pytest_plugin.cloud import TestCloud, missing

    if "gizwits_clock" in request.fixturenames:
        pytest.fail(
            "gizwits_cloud has sockets, which know no virtual time: not with gizwits_clock", pytrace=False
        )
    if reason := missing():
        pytest.skip(reason)
    cloud = TestCloud(gizwits_stage, gizwits_product)
    cloud.open()
    try:
        yield cloud
    finally:
        cloud.close()


def _opened(open_end: Callable[[], StationT]) -> StationT:
    """Open one end of the line; a port that cannot be opened fails the test with one sentence."""
    from gizserial.errors import TransportError
    from sim.pytest_plugin.lock import PortBusyError

    try:
        return open_end()
    except (TransportError, PortBusyError) as error:
        sentence = str(error)
    pytest.fail(f"--gizwits-port: {sentence}", pytrace=False)
