# SPDX-License-Identifier: LGPL-2.1-or-later
"""The agent's life: start, follow, reload, stop; one asyncio loop owns all state."""

from __future__ import annotations

import asyncio
import gc
import grp
import os
import signal
import time
from contextlib import closing, suppress
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import structlog
from systemd import daemon

from banagent import __version__
from banagent import config as configuration
from banagent.answers import Answers, refusing
from banagent.control import INTERFACE, READING
from banagent.control.server import ControlError, Server
from banagent.control.service import About, Permitted, Service, read_interface
from banagent.core.bans import Bans
from banagent.core.events import SECOND
from banagent.core.keeping import Purge, Row, believed
from banagent.enforce import Enforcer, Ports
from banagent.errors import BanagentError, ConfigError, FirewallError, HistoryError
from banagent.pipeline import LATE, Pipeline
from banagent.reading import Chooser, Reading
from banagent.rulings import Rulings
from banagent.sinks.history import DamagedError, History, Position, set_aside
from banagent.sinks.trail import Trail
from banagent.sources.host import HostAddresses
from banagent.sources.lists import Lists

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Mapping

    from banagent.sources.batch import Batch

GROUP: Final = "banagent"  # its members may read
STATE_DIRECTORY: Final = Path("/var/lib/banagent")
HISTORY: Final = "history.db"
TRAIL: Final = "running"
YOUNG: Final = 20_000  # objects until Python looks for garbage: more than a batch makes, of which none is left
CHECKPOINT: Final = 5.0  # seconds between checkpoints while there is activity
TELL: Final = 1.0  # seconds until a change is in the status that systemd shows
RETRY: Final = 5.0  # seconds until what failed is tried again
PURGE: Final = 3600.0  # seconds between two looks for what the history need not keep
PURGED: Final = "purge"  # the position in the history of the last of these looks
SLICE: Final = 50  # bans that are looked at in a turn of the loop
PAUSE: Final = 0.05  # seconds between two of those turns
LOOKS: Final = 20  # times as long as a look at the host takes goes by before the next
SETTLED: Final = 0.1  # seconds after which a changed file is read
SET: Final = "banagent set"  # stands for the file of what was set by hand
SAID: Final = 5  # mistakes in files of addresses

log = structlog.get_logger()


class Options(NamedTuple):
    """What the command line says."""

    config: Path | None = None  # instead of the admin's files
    filters: Path | None = None  # a folder of filters that override the others
    journal: Path | None = None  # a folder with journal files, instead of the machine's own journal
    dry_run: bool = False


async def run(options: Options) -> None:
    """Run until SIGTERM or SIGINT. Raises BanagentError if it can't begin."""
    await _Agent(options).run()


def wall_clock() -> int:
    """Give the time in µs since the epoch."""
    return time.time_ns() // 1000


def steady_clock() -> int:
    """Give the µs since the boot, also of the time that the machine slept."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000


class _Agent:
    """What is running, and the loop's hooks to it; what has no underscore is for the answers."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self.journal, self.dry_run = options.journal, options.dry_run
        self.started = wall_clock()
        self.live = False
        self.config = self._from_files = _load(options)
        self.values: Mapping[str, object] = {}  # that were set since
        self._lost: str | None = None  # why there is no history of earlier runs
        self._reserved = None if options.dry_run else _reserve(_state_directory())
        self._trail = Trail(None if options.dry_run else _state_directory() / TRAIL)
        self._addresses = HostAddresses()
        self._looking: asyncio.Task[None] | None = None  # at what the host is by now
        self._purging: asyncio.Task[None] | None = None
        self._look_took = 0.0  # seconds
        self._lists = Lists()
        self._lists.use(_list_files(self.config))
        gc.disable()  # what is read now stays: looking through it again and again takes longer than all of the rest
        try:
            self._take_up(self._open_history())
        except HistoryError as error:
            self._take_up(self._without(error))
        self._stopping = asyncio.Event()
        self._restarting = asyncio.Event()  # of the reading, with other filters
        self._timers: dict[str, asyncio.TimerHandle] = {}

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(_on_fault)
        loop.add_signal_handler(signal.SIGTERM, self._stopping.set)
        loop.add_signal_handler(signal.SIGINT, self._stopping.set)
        loop.add_signal_handler(signal.SIGHUP, self._on_hangup)
        self.reading.open()  # a journal that can't be read is said before anything is touched
        self.pipeline.lift_forbidden()
        self.enforcer.restore(self._ports())
        self._watch_firewall()
        loop.add_reader(self._addresses.fileno(), self._on_host_change)
        self._watch_lists()
        if self._lost is not None:
            self.enforcer.fails("history", self._lost, lasting=True)
        if self.config.failed:
            self.enforcer.fails("filters", f"jails are left out: {'; '.join(map(str, self.config.failed))}")
        self._expire()
        self._purge_later()
        server = await self._serve()
        self._feed_watchdog()
        self._tell("READY=1")
        gc.freeze()
        gc.set_threshold(YOUNG)
        gc.enable()
        log.info("ready", jails=",".join(self.pipeline.configs) or "none", dry_run=self.dry_run or None)
        while not self._stopping.is_set():
            await _first(self.reading.run(), self._restarting.wait(), self._stopping.wait())
            self._restarting.clear()
        if server is not None:
            await server.close()
        self._stop()
        if self.enforcer.damaged:
            raise HistoryError("the history was found damaged while the agent ran; start it again")

    def reload(self) -> None:
        """Take the configuration as it is now; if that fails, the former stays. Raises ConfigError, FirewallError."""
        daemon.notify(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")
        try:
            config = _without_mistakes(self._options)
            self._change_config(config)
            self._from_files, self.values = config, {}
            self.enforcer.works("filters")
            self._restarting.set()
            self.enforcer.tell("reloaded", "reloaded", jails=",".join(self.pipeline.configs) or "none")
        except ConfigError as error:
            for mistake in error.mistakes:
                log.error("not reloaded", mistake=str(mistake))  # noqa: TRY400 - for the admin
            raise
        except FirewallError as error:
            log.error("not reloaded", error=str(error))  # noqa: TRY400
            raise
        finally:
            self._tell("READY=1")

    def set_values(self, data: Mapping[str, object]) -> None:
        """Put values over those of the files, until these are read again. Raises ConfigError, FirewallError."""
        config = configuration.with_values(self._from_files, data, SET)
        if config.failed:
            raise ConfigError(config.failed)
        self._change_config(config)
        self.values = data
        self._restarting.set()
        self._tell_soon()

    def _stop(self) -> None:
        daemon.notify("STOPPING=1")
        self.pipeline.save()
        self._trail.close()
        bans = sum(self.enforcer.bans.counts().values())
        self._lists.close()
        self.enforcer.close()
        hint = "the kernel lifts each when its time is over; to lift all now: banagent unban --offline --all"
        log.info("stopped", bans_standing=bans, hint=hint if bans and not self.dry_run else None)

    async def _serve(self) -> Server | None:
        """Open the control socket in $RUNTIME_DIRECTORY; an agent without one bans all the same."""
        folder = os.environ.get("RUNTIME_DIRECTORY")
        if not folder:
            return None
        permitted = Permitted(os.getuid(), _group(GROUP), READING)
        about = About("banagent", "banagent", __version__, "man:banagent(8)")
        handlers = {name: refusing(do) for name, do in (Answers(self).handlers() | Rulings(self).handlers()).items()}
        service = Service(read_interface(INTERFACE), handlers, permitted, about, _on_answer_fault)
        server = Server(Path(folder) / INTERFACE, service)
        try:
            await server.start()
        except ControlError as error:
            self.enforcer.fails("control", str(error))
            return None
        return server

    def _take_up(self, history: History) -> None:
        """Go on from what an earlier run left. Raises HistoryError."""
        self.history = history
        self.enforcer = Enforcer(Bans(), history, wall_clock, dry=self.dry_run, steady=steady_clock)
        with closing(Chooser(self.journal)) as choose:
            host = self._addresses.read()
            self.pipeline = Pipeline(
                self.config,
                host,
                history,
                self.enforcer,
                choose=choose,
                trail=self._trail,
                lists=self._lists.covers,
            )
        self.reading = Reading(self.pipeline, self.enforcer, self.journal, self._on_batch)
        now, newest = wall_clock(), self.pipeline.newest
        self.enforcer.recall((now if newest is None else min(newest, now)) - LATE)

    def _without(self, error: HistoryError) -> History:
        """Give a history in place of one that can't be read: a new one if it is damaged."""
        self.history.close()
        if isinstance(error, DamagedError):
            moved = set_aside(_state_directory() / HISTORY)
            log.error("the history was damaged; a new one is begun", message_id="trouble", error=error, set_aside=moved)
            return self._open_history()
        self._lost = f"{error}; it bans, but a restart forgets"
        return History(None)

    def _open_history(self) -> History:
        """Open the history; without one go on, loudly: a ban matters more than a record of it."""
        if self.dry_run:
            return History(None)
        path = _state_directory() / HISTORY
        try:
            history = History(path)
        except HistoryError as error:
            self._lost = f"{error}; it bans, but a restart forgets"
            return History(None)
        if history.set_aside is not None:
            log.error("the history was damaged; a new one is begun", message_id="trouble", set_aside=history.set_aside)
        return history

    # what the loop calls

    def _on_batch(self, batch: Batch) -> None:
        if batch.read:
            self._after("checkpoint", CHECKPOINT, self._checkpoint)
            self._expire()
        if self.reading.live and not self.live:
            self.live = True
            self._trail.calm()
            self.enforcer.settle()
            self._tell_soon()

    def _on_host_change(self) -> None:
        """Look again what the host is; where a look takes long, after a while, and what changes until then is in it."""
        asyncio.get_running_loop().remove_reader(self._addresses.fileno())

        def look() -> None:
            self._looking = asyncio.ensure_future(self._look())

        self._after("host", self._look_took * LOOKS, look)

    async def _look(self) -> None:
        begin = time.monotonic()
        try:
            self._addresses.drain()
            self.pipeline.adopt_host(await self._addresses.look())
            self.enforcer.works("host")
        except BanagentError as error:
            self.enforcer.fails("host", f"{error}; what was known before stays in force")
        self._look_took = time.monotonic() - begin
        asyncio.get_running_loop().add_reader(self._addresses.fileno(), self._on_host_change)

    def _watch_lists(self) -> None:
        """Follow the files of ignoreip, and say what is wrong with them."""
        descriptor = self._lists.fileno()
        if descriptor is not None:
            asyncio.get_running_loop().add_reader(descriptor, self._on_list_change)
        wrong = [str(mistake) for mistakes in self._lists.mistakes.values() for mistake in mistakes]
        if self._lists.unwatched is not None:
            wrong.append(self._lists.unwatched)
        if not wrong:
            self.enforcer.works("ignoreip")
            return
        more = f"; and {len(wrong) - SAID} more" if len(wrong) > SAID else ""
        self.enforcer.fails("ignoreip", f"{'; '.join(wrong[:SAID])}{more}; what was read before stays in force")

    def _on_list_change(self) -> None:
        if self._lists.drain():
            self._after("lists", SETTLED, self._read_lists)

    def _read_lists(self) -> None:
        if self._lists.read():
            self.pipeline.renew()
        self._watch_lists()
        self.pipeline.save()

    def _on_firewall_change(self) -> None:
        self.enforcer.repair()
        self._retry_later()

    def _watch_firewall(self) -> None:
        descriptor = self.enforcer.watched()
        if descriptor is not None:
            asyncio.get_running_loop().add_reader(descriptor, self._on_firewall_change)

    def _unwatch_firewall(self) -> None:
        descriptor = self.enforcer.watched()
        if descriptor is not None:
            asyncio.get_running_loop().remove_reader(descriptor)

    def clock(self) -> int:
        """Give the time, in µs since the epoch, by which what stands is what is left of it by then."""
        self.pipeline.follow_clock()
        return wall_clock()

    def _expire(self) -> None:
        """Lift what ran out; come back when the next ban does."""
        self.pipeline.follow_clock()
        next_end = self.enforcer.expire()
        timer = self._timers.pop("expire", None)
        if timer is not None:
            timer.cancel()
        if next_end is not None:
            self._after("expire", max((next_end - wall_clock()) / SECOND, 0), self._expire)
        self._retry_later()
        self._tell_soon()

    def follow_up(self) -> None:
        """See to what comes of an act: when the next ban ends, what has to be tried again."""
        self._expire()

    def _checkpoint(self) -> None:
        self.pipeline.save()
        self._retry_later()
        self._tell_soon()

    def _purge_later(self) -> None:
        self._after("purge", PURGE, self._begin_purge)

    def _begin_purge(self) -> None:
        self._purging = asyncio.ensure_future(self._purge())

    async def _purge(self) -> None:
        """Forget bans of the past that are too old or too many, a few at a time."""
        forget = self.pipeline.longest_record()
        dropped = 0
        try:
            last = self.history.position(PURGED)
            now = believed(wall_clock(), None if last is None else last.time)
            purge = Purge(self.config.history, now, sum(self.history.totals().values()), forget)
            looks = True
            while looks:
                async for gone in self._past(purge):
                    self.history.drop(gone)
                    dropped += len(gone)
                looks = purge.again()
            self.history.commit(positions={PURGED: Position("", now if last is None else max(now, last.time))})
            if dropped:
                log.info("forgot bans of the past", bans=dropped)
        except HistoryError as error:  # what else it can't do is told where it matters; this can wait
            log.warning("bans of the past are kept for now", error=str(error))
            if isinstance(error, DamagedError):
                self.enforcer.fails_history(error)
                self._retry_later()
        self._purge_later()

    async def _past(self, purge: Purge) -> AsyncIterator[list[Row]]:
        """Give the bans of the past that are to go, a few at a time."""
        after = 0
        while rows := self.history.rows(after, SLICE):
            after = rows[-1].id
            if gone := [row for row in rows if purge.takes(row)]:
                yield gone
            if purge.is_done(rows[-1]):
                return
            await asyncio.sleep(PAUSE)

    def _retry_later(self) -> None:
        if self.enforcer.troubles:
            self._after("retry", RETRY, self._retry)

    def _retry(self) -> None:
        if self.enforcer.damaged and self._lost is None:
            with suppress(OSError):  # then it stays as it is, and said
                self._begin_anew()
                return
        self.enforcer.retry()
        self.pipeline.save()
        self._retry_later()

    def _begin_anew(self) -> None:
        """End, so that the next run begins a history: this one was found damaged. It takes over what the kernel has."""
        moved = set_aside(_state_directory() / HISTORY)
        log.error("the history is damaged; a new one is begun by the next run", message_id="trouble", set_aside=moved)
        self._stopping.set()

    def _feed_watchdog(self) -> None:
        """Say twice within $WATCHDOG_USEC that the loop turns (sd_notify(3))."""
        interval = int(os.environ.get("WATCHDOG_USEC", "0")) / SECOND
        if interval:
            daemon.notify("WATCHDOG=1")
            self._after("watchdog", interval / 2, self._feed_watchdog)

    def _on_hangup(self) -> None:
        with suppress(ConfigError, FirewallError):  # it is in the log
            self.reload()

    def _change_config(self, config: configuration.Config) -> None:
        """Go on with another configuration; if the kernel refuses, with the one before."""
        self.pipeline.save()
        former = self.config
        renewed = self._lists.use(_list_files(config)) or _ignored(former) != _ignored(config)
        with closing(Chooser(self.journal)) as choose:
            try:
                self.pipeline.reconfigure(config, choose)
            except ConfigError:
                self._lists.use(_list_files(former))
                raise
            self._unwatch_firewall()
            try:
                self.enforcer.switch(self._ports())
            except FirewallError:
                self._lists.use(_list_files(former))
                self.pipeline.reconfigure(former, choose)
                raise
            finally:
                self._watch_firewall()
                self._watch_lists()
        self.config = config
        if renewed:
            self.pipeline.lift_forbidden()

    # helpers of the above

    def _ports(self) -> dict[str, Ports]:
        return {name: config.ports for name, config in self.pipeline.configs.items()}

    def _after(self, name: str, seconds: float, act: Callable[[], None]) -> None:
        """Call `act` later, unless that is planned already."""
        if name not in self._timers:

            def fire() -> None:
                del self._timers[name]
                act()

            self._timers[name] = asyncio.get_running_loop().call_later(seconds, fire)

    def _tell_soon(self) -> None:
        self._after("tell", TELL, self._tell)

    def _tell(self, state: str = "") -> None:
        """Tell systemd how things are, in a sentence."""
        bans = sum(self.enforcer.bans.counts().values())
        decided, failures = self.enforcer.decided, self.pipeline.failures
        stand = "would stand" if self.dry_run else "stands" if bans == 1 else "stand"
        words = [
            f"{_number(bans, 'ban')} {stand}",
            f"{_number(failures, 'failure')} and {_number(decided, 'ban')} since the start",
            "OFF, nothing is banned" if self.enforcer.off else "reading live" if self.live else "catching up",
        ]
        if self.enforcer.troubles:
            words.append("TROUBLE, see the log")
        status = "STATUS=" + "; ".join(words)
        daemon.notify(f"{state}\n{status}" if state else status)


def _ignored(config: configuration.Config) -> dict[str, object]:
    """Give whom each jail ignores."""
    return {jail.name: (jail.ignoreip, jail.ignore_files) for jail in config.jails if jail.enabled}


def _list_files(config: configuration.Config) -> list[str]:
    """Give the files of ignoreip that the jails need."""
    return [path for jail in config.jails if jail.enabled for path in jail.ignore_files]


def _load(options: Options) -> configuration.Config:
    return configuration.load(config=options.config, filters=options.filters, whole=False)


def _without_mistakes(options: Options) -> configuration.Config:
    """Read the configuration. Raises ConfigError also for what would cost one jail only."""
    config = _load(options)
    if config.failed:
        raise ConfigError(config.failed)
    return config


def _state_directory() -> Path:
    return Path(os.environ.get("STATE_DIRECTORY", str(STATE_DIRECTORY)))


def _reserve(directory: Path) -> int | None:
    """Keep a second agent from the same state: the two would undo each other's table for ever.

    Give a descriptor that must stay open; None if the directory can't be opened. Raises BanagentError.
    """
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:  # what is wrong with it is said of the history
        return None
    try:
        flock(descriptor, LOCK_EX | LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise BanagentError(f"another agent is running with the state in {directory}; see: banagent status") from None
    except OSError:  # some network file systems have no locks
        os.close(descriptor)
        return None
    return descriptor


def _number(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def _group(name: str) -> int | None:
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        return None


def _on_answer_fault(where: str, error: Exception) -> None:
    log.error("fault in an answer", message_id="trouble", method=where, exc_info=error)


def _on_fault(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log what a callback raised; the loop goes on."""
    log.error(context["message"], message_id="trouble", exc_info=context.get("exception"))


async def _first(*jobs: Coroutine[None, None, object]) -> None:
    """Run until one of several is done, and end the others; what that one raises is raised."""
    tasks = [asyncio.ensure_future(job) for job in jobs]
    done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    await asyncio.gather(*pending, return_exceptions=True)
    for task in done:
        task.result()
