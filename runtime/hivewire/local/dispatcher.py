"""The queue of the local runtime and what empties it.

Messages are taken from the queue in order and started, each handler in a task of its own; nothing is waited for in
between except interception, which is done one message after the other so that it keeps the order too. All work that was
accepted is counted until it ends, however it ends: that count is what idleness means.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import Context, copy_context
from enum import Enum
from typing import Any

from hivewire.exceptions import RuntimeStateError
from hivewire.local.mailboxes import Mailboxes
from hivewire.local.overdue import OverdueTurns
from hivewire.local.pending import PendingWork
from hivewire.local.streams import StreamCall
from hivewire.local.work import Turn, Work, current_work
from hivewire.logging import lines_about
from hivewire.model import grace

__all__ = ["Dispatcher", "State"]

_logger = logging.getLogger("hivewire.local")

# How many messages are started before other callbacks of the loop get their turn.
_BATCH = 128


class State(Enum):
    STOPPED = "stopped"
    RUNNING = "running"
    STOPPING = "stopping"


class Dispatcher:
    """Starts accepted work in order.

    `launch` starts one piece of work by calling `spawn`, and must not await. `intercept` is asked before, and returns
    whether the work may go on; what an interception puts, or what it calls, does not wait behind it. Whatever they and
    the spawned coroutines raise, the dispatcher goes on.

    A handler may stop the runtime that runs it. It cannot wait for itself, so `stop` and `stop_when_idle` leave out the
    turn that they are called in and the turns that wait for that one, also when several turns do so at once.
    """

    def __init__(
        self,
        launch: Callable[[Any], None],
        intercept: Callable[[Any], Awaitable[bool]] | None,
        mailboxes: Mailboxes,
    ) -> None:
        self._launch = launch
        self._intercept = intercept
        self._mailboxes = mailboxes
        self._state = State.STOPPED
        self._queue: deque[Work] = deque()
        self._pending = PendingWork(self)
        self._overdue = OverdueTurns(self._leave_behind)
        self._tasks: dict[asyncio.Task[Any], Work] = {}
        self._context: Context | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pumping = False
        self._failure: BaseException | None = None
        self._runs = 0

    def __repr__(self) -> str:
        return f"<Dispatcher {self._state.value}, {len(self._queue)} queued, {self._pending!r}>"

    @property
    def state(self) -> State:
        return self._state

    @property
    def queued(self) -> int:
        """How much work waits to be started, in the queue or for its turn."""
        return len(self._queue) + self._mailboxes.waiting

    @property
    def has_queued(self) -> bool:
        """Whether there is work that was put and not looked at yet."""
        return bool(self._queue)

    def put(self, work: Work) -> None:
        """Accept work.

        Raises:
            RuntimeStateError: the runtime is stopping, or a handler failed that must not be ignored.
        """
        self.check_failure()
        if self._state is State.STOPPING:
            raise RuntimeStateError("The runtime is stopping and takes no more messages")
        self._pending.add()
        if self._intercept is not None and _is_within_interception(self):
            self._spawn_admission(work)
            return
        self._queue.append(work)
        if self._state is State.RUNNING:
            if not self._pumping:
                self._start_pumping()
        elif self._pending.watched:
            self._pending.notify()

    def spawn(self, coroutine: Coroutine[Any, Any, None], work: Work) -> asyncio.Task[None]:
        """Run a coroutine as part of the pending work; `work` is finished when it ends."""
        self._pending.add()
        task = work.task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks[task] = work
        task.add_done_callback(self._ended)
        return task

    def watch(self, turn: Turn) -> None:
        """See that the handler of a turn ends: nobody waits for it any more."""
        self._overdue.watch(turn)

    def fail(self, error: BaseException) -> None:
        """Stop starting work: what is queued, and what is put from now on, fails because of this error.

        The error itself is raised by the next `process_next`, `stop` or `stop_when_idle`, and forgotten then.
        """
        if self._failure is None:
            self._failure = error
            self.drop_queued()

    def start(self) -> None:
        """Start work as it comes, queued work first.

        Handlers run in the context of this call, never in that of whoever sent them a message.

        Raises:
            RuntimeStateError: already started.
        """
        if self._state is not State.STOPPED:
            raise RuntimeStateError("The runtime is already started")
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            # What was scheduled on an earlier loop never runs.
            self._loop, self._pumping = loop, False
        self._state = State.RUNNING
        self._runs += 1
        self._context = copy_context()
        if self._queue and not self._pumping:
            self._start_pumping()

    async def process_next(self) -> None:
        """Start one queued message, waiting for one if there is none. Returns when its handler has had a first step,
        or without one when the runtime is stopped meanwhile.

        Raises:
            BaseException: an earlier event handler's error, where those are not ignored.
        """
        self.raise_failure()
        state_before = self._state
        while not self._queue:
            await self._pending.change()
            self.raise_failure()
            if state_before is State.RUNNING and self._state is not State.RUNNING:
                return
        await self._admit(self._queue.popleft())
        await asyncio.sleep(0)

    async def stop(self) -> None:
        """Refuse what is queued and wait for what runs, except for the work that this call is part of.

        A stream whose reader stays away for the grace time ends.

        Raises:
            RuntimeStateError: not started.
            BaseException: an event handler's error, where those are not ignored.
        """
        self._check_started()
        run = self._runs
        self._state = State.STOPPING
        self.drop_queued()
        self._close_unread(run, asyncio.get_running_loop().time())
        try:
            await self._pending.until_idle(
                unless=lambda: self._runs != run or self._state is not State.STOPPING,
            )
        finally:
            # Whoever else stopped this run at the same time may have finished, and a new run may have begun.
            if self._runs == run:
                self._state = State.STOPPED
                self._pending.notify()
        self.raise_failure()

    async def settle(self) -> None:
        """Wait until nothing is queued or running, except for the work that this call is part of, or nothing is
        started any more."""
        run = self._runs
        if self._state is State.RUNNING:
            await self._pending.until_idle(
                unless=lambda: self._runs != run or self._state is not State.RUNNING or self._failure is not None
            )

    async def stop_when_idle(self) -> None:
        """Wait until nothing is queued or running, except for the work that this call is part of, and stop.

        Raises:
            RuntimeStateError: not started.
            BaseException: an event handler's error, where those are not ignored.
        """
        self._check_started()
        run = self._runs
        await self._pending.until_idle(
            unless=lambda: self._runs != run or self._state is not State.RUNNING or self._failure is not None
        )
        if self._runs == run and self._state is not State.STOPPED:
            await self.stop()

    async def stop_when(self, condition: Callable[[], bool], period_s: float) -> None:
        """Ask every `period_s` seconds whether the condition holds, and stop once it does.

        Raises:
            RuntimeStateError: not started.
            BaseException: an event handler's error, where those are not ignored.
        """
        self._check_started()
        run = self._runs
        while self._failure is None and not condition():
            await asyncio.sleep(period_s)
            if self._runs != run or self._state is State.STOPPED:
                return
        await self.stop()

    def _close_unread(self, run: int, begun: float) -> None:
        """End the streams whose readers have not come for the grace time since a stop began, and look again."""
        if self._runs != run or self._state is not State.STOPPING:
            return
        loop = asyncio.get_running_loop()
        for work in list(self._tasks.values()):
            if not isinstance(work, StreamCall) or work.unread_since is None:
                continue
            if loop.time() - max(begun, work.unread_since) >= grace.GRACE_S:
                with lines_about(work):
                    _logger.warning("Ended the stream of %s: the runtime stops, and its reader did not come", work)
                work.refuse(RuntimeStateError("The runtime stopped while the stream was not read"))
                work.abandon()
        loop.call_later(grace.GRACE_S / 5, self._close_unread, run, begun)

    def drop_queued(self) -> None:
        """Refuse all work that waits to be started."""
        queue, self._queue = self._queue, deque()
        for work in queue:
            self._refuse(work)
        self._mailboxes.refuse_waiting(self._refusal())
        self._pending.notify()

    def check_failure(self) -> None:
        """Refuse to go on after `fail`.

        Raises:
            RuntimeStateError: caused by the error that `fail` was given.
        """
        if self._failure is not None:
            raise self._refusal()

    def raise_failure(self) -> None:
        """Raise the error given to `fail`, once."""
        if self._failure is not None:
            error, self._failure = self._failure, None
            raise error

    def _check_started(self) -> None:
        if self._state is State.STOPPED:
            raise RuntimeStateError("The runtime is not started")

    def _start_pumping(self) -> None:
        self._pumping = True
        asyncio.get_running_loop().call_soon(self._pump, context=self._context)

    def _pump(self) -> None:
        if self._state is not State.RUNNING:
            # Stopped since this was scheduled: what is queued by now waits for the next start.
            self._pumping = False
            return
        if self._intercept is not None:
            task = asyncio.get_running_loop().create_task(self._pump_one_by_one())
            self._tasks[task] = _PUMP
            task.add_done_callback(self._stopped_pumping)
            return
        queue = self._queue
        for _ in range(min(len(queue), _BATCH)):
            self._start_work(queue.popleft())
        self._pumping = False
        if queue and self._state is State.RUNNING:
            self._start_pumping()

    async def _pump_one_by_one(self) -> None:
        while self._queue and self._state is State.RUNNING:
            await self._admit(self._queue.popleft())

    def _stopped_pumping(self, task: asyncio.Task[Any]) -> None:
        self._tasks.pop(task)
        self._pumping = False
        if self._queue and self._state is State.RUNNING:
            self._start_pumping()

    def _spawn_admission(self, work: Work) -> None:
        task = asyncio.get_running_loop().create_task(self._admit(work))
        self._tasks[task] = _PUMP
        task.add_done_callback(self._tasks.pop)

    async def _admit(self, work: Work) -> None:
        """Intercept work and start it."""
        if self._intercept is None or work.withdrawn:
            self._start_work(work)
            return
        token = current_work.set(work)
        work.intercepting = True
        try:
            may_go_on = await self._intercept(work)
        except BaseException as error:
            # Only a cancellation of the task that pumps comes here.
            work.refuse(error)
            self._finish(work)
            raise
        finally:
            work.intercepting = False
            current_work.reset(token)
        if not may_go_on:
            self._finish(work)
        elif self._failure is not None or self._state is State.STOPPING:
            self._refuse(work)
        else:
            self._start_work(work)

    def _start_work(self, work: Work) -> None:
        """Launch work that is counted as pending and give its count over to what it spawns."""
        if work.withdrawn:
            with lines_about(work):
                _logger.debug("Cancelled before it was handled: %s", work)
            work.finished = True
        else:
            try:
                self._launch(work)
            except Exception as error:
                with lines_about(work):
                    _logger.exception("Could not be started: %s", work)
                work.refuse(error)
                work.finished = True
        self._pending.remove()

    def _ended(self, task: asyncio.Task[Any]) -> None:
        work = self._tasks.pop(task)
        if work.overdue_timer is not None:
            work.overdue_timer.cancel()
        if work.left_behind:
            if not task.cancelled() and (error := task.exception()) is not None:
                with lines_about(work):
                    _logger.error("Failed after it was left behind: %s", work, exc_info=error)
            return
        if task.cancelled():
            # Before its first step, the coroutine itself could not tell the caller.
            work.refuse(asyncio.CancelledError())
        elif (error := task.exception()) is not None:
            with lines_about(work):
                _logger.error("Failed outside of its handler: %s", work, exc_info=error)
            work.refuse(error)
        self._finish(work)

    def _leave_behind(self, turn: Turn) -> None:
        """Wait for a turn no more, whatever it does."""
        turn.left_behind = True
        self._finish(turn)
        self._mailboxes.leave(turn)

    def _refuse(self, work: Work) -> None:
        work.refuse(self._refusal())
        self._finish(work)

    def _refusal(self) -> RuntimeStateError:
        if self._failure is None:
            return RuntimeStateError("The runtime stopped before the message was handled")
        error = RuntimeStateError(
            "An event handler failed, which this runtime does not ignore: stop it to get the error"
        )
        error.__cause__ = self._failure
        return error

    def _finish(self, work: Work) -> None:
        work.finished = True
        self._pending.remove()


class _Pump(Work):
    """Stands for the dispatcher's own tasks, which are no work."""

    __slots__ = ()


_PUMP = _Pump()


def _is_within_interception(dispatcher: Dispatcher) -> bool:
    """Whether an interception may be waiting for what the running code does, also for calls that its calls make."""
    work = current_work.get()
    return work is not None and any(above.intercepting and above.owner is dispatcher for above in work.chain())
