import asyncio
import gc
import logging
import math
import threading
import weakref
from collections.abc import Callable

import pytest

from hivewire.model.cancellation import CancellationToken


async def until_cancelled(token: CancellationToken) -> None:
    cancelled = asyncio.Event()
    token.add_callback(cancelled.set)
    async with asyncio.timeout(10):
        await cancelled.wait()


def running_timers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)]


def in_other_thread(call: Callable[[], object]) -> None:
    thread = threading.Thread(target=call)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()


def test_a_new_token_is_not_cancelled() -> None:
    token = CancellationToken()
    assert not token.is_cancelled
    assert token.is_cancelled() is False


def test_a_cancelled_token_says_so_as_a_value_and_as_a_call() -> None:
    token = CancellationToken()
    token.cancel()
    assert token.is_cancelled
    assert token.is_cancelled() is True
    assert bool(token.is_cancelled) is True


def test_a_kept_flag_follows_its_token() -> None:
    token = CancellationToken()
    flag = token.is_cancelled
    assert (bool(flag), flag(), repr(flag)) == (False, False, "False")
    token.cancel()
    assert (bool(flag), flag(), repr(flag)) == (True, True, "True")


def test_a_token_shows_its_state() -> None:
    token = CancellationToken()
    token.add_callback(lambda: None)
    assert repr(token) == "<CancellationToken active, 1 links>"
    token.cancel()
    assert repr(token) == "<CancellationToken cancelled, 0 links>"


def test_callbacks_run_once_in_the_order_in_which_they_were_added() -> None:
    token = CancellationToken()
    ran: list[int] = []
    for number in range(3):
        token.add_callback(lambda number=number: ran.append(number))
    assert ran == []
    token.cancel()
    token.cancel()
    assert ran == [0, 1, 2]


def test_a_callback_that_is_added_twice_runs_twice() -> None:
    token = CancellationToken()
    ran: list[int] = []
    callback = lambda: ran.append(1)  # noqa: E731
    token.add_callback(callback)
    token.add_callback(callback)
    token.cancel()
    assert ran == [1, 1]


def test_a_late_callback_runs_at_once() -> None:
    token = CancellationToken()
    token.cancel()
    ran: list[int] = []
    token.add_callback(lambda: ran.append(1))
    assert ran == [1]


def test_row_58_a_callback_may_use_the_token() -> None:
    token = CancellationToken()
    seen: list[object] = []

    def callback() -> None:
        seen.append(token.is_cancelled())
        token.cancel()
        token.add_callback(lambda: seen.append("nested"))

    token.add_callback(callback)
    token.add_callback(lambda: seen.append("next"))
    token.cancel()
    assert seen == [True, "nested", "next"]


@pytest.mark.parametrize("error", [ValueError("boom"), asyncio.CancelledError()])
def test_row_58_a_raising_callback_is_logged_and_the_others_still_run(
    caplog: pytest.LogCaptureFixture, error: BaseException
) -> None:
    token = CancellationToken()
    ran: list[str] = []

    def failing() -> None:
        raise error

    token.add_callback(failing)
    token.add_callback(lambda: ran.append("other"))
    with caplog.at_level(logging.ERROR, logger="hivewire"):
        token.cancel()
        token.add_callback(failing)
    assert ran == ["other"]
    assert [record.exc_info is not None for record in caplog.records] == [True, True]


async def test_a_linked_future_is_returned_and_cancelled() -> None:
    token = CancellationToken()
    future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    assert token.link_future(future) is future
    token.cancel()
    assert future.cancelled()


async def test_a_future_that_is_linked_late_is_cancelled_at_once() -> None:
    token = CancellationToken()
    token.cancel()
    assert token.link_future(asyncio.get_running_loop().create_future()).cancelled()


async def test_a_linked_task_is_cancelled() -> None:
    token = CancellationToken()
    task = token.link_future(asyncio.ensure_future(asyncio.Event().wait()))
    token.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_done_future_keeps_its_result() -> None:
    token = CancellationToken()
    future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    token.link_future(future)
    future.set_result(1)
    token.cancel()
    assert future.result() == 1


async def test_a_token_of_many_futures_forgets_those_that_are_done() -> None:
    token = CancellationToken()
    loop = asyncio.get_running_loop()
    open_future = token.link_future(loop.create_future())
    for _ in range(1000):
        token.link_future(loop.create_future()).set_result(None)
    done = loop.create_future()
    done.set_result(None)
    forgotten = weakref.ref(token.link_future(done))
    del done
    for _ in range(200):
        token.link_future(loop.create_future()).set_result(None)
    gc.collect()
    assert forgotten() is None
    token.cancel()
    assert open_future.cancelled()


async def test_cancelling_from_another_thread_cancels_futures_on_their_own_loop() -> None:
    token = CancellationToken()
    loop_thread = threading.get_ident()
    cancelled_in: list[int] = []
    future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    cancel = future.cancel

    class Observed(asyncio.Future[int]):
        def cancel(self, msg: object = None) -> bool:
            cancelled_in.append(threading.get_ident())
            return cancel()

    token.link_future(Observed())
    await asyncio.to_thread(token.cancel)
    assert token.is_cancelled
    with pytest.raises(asyncio.CancelledError):
        async with asyncio.timeout(10):
            await future
    assert cancelled_in == [loop_thread]


async def test_a_waiter_wakes_up_when_another_thread_cancels() -> None:
    token = CancellationToken()
    future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    token.link_future(future)
    threading.Thread(target=token.cancel).start()
    with pytest.raises(asyncio.CancelledError):
        async with asyncio.timeout(10):
            await future


def test_a_future_of_a_loop_that_does_not_run_is_cancelled_directly() -> None:
    loop = asyncio.new_event_loop()
    token = CancellationToken()
    future = token.link_future(loop.create_future())
    token.cancel()
    assert future.cancelled()
    loop.close()


def test_a_future_of_a_closed_loop_is_nobodys_trouble(caplog: pytest.LogCaptureFixture) -> None:
    loop = asyncio.new_event_loop()
    token = CancellationToken()
    future = token.link_future(loop.create_future())
    future.add_done_callback(lambda _: None)
    loop.close()
    token.cancel()
    assert not caplog.records


def test_each_callback_runs_exactly_once_however_threads_interleave() -> None:
    for _ in range(200):
        token = CancellationToken()
        ran: list[int] = []
        barrier = threading.Barrier(4)

        def add(
            base: int,
            token: CancellationToken = token,
            ran: list[int] = ran,
            barrier: threading.Barrier = barrier,
        ) -> None:
            barrier.wait(10)
            for number in range(base, base + 20):
                token.add_callback(lambda number=number: ran.append(number))

        def cancel(token: CancellationToken = token, barrier: threading.Barrier = barrier) -> None:
            barrier.wait(10)
            token.cancel()

        threads = [threading.Thread(target=add, args=(base,)) for base in (0, 100)]
        threads += [threading.Thread(target=cancel) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
        assert sorted(ran) == [*range(20), *range(100, 120)]


async def test_cancel_after_uses_the_running_loops_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    now = loop.time()
    token = CancellationToken()
    token.cancel_after(10.0)
    monkeypatch.setattr(loop, "time", lambda: now + 9)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not token.is_cancelled
    monkeypatch.setattr(loop, "time", lambda: now + 11)
    await until_cancelled(token)


async def test_of_several_timers_the_earliest_wins() -> None:
    token = CancellationToken()
    token.cancel_after(3600)
    token.cancel_after(0.001)
    await until_cancelled(token)


async def test_an_early_cancel_frees_the_timer() -> None:
    token = CancellationToken()
    token.cancel_after(3600)
    token.cancel()
    token.cancel_after(3600)
    ref = weakref.ref(token)
    del token
    gc.collect()
    assert ref() is None


async def test_another_thread_may_cancel_a_token_whose_timer_runs() -> None:
    token = CancellationToken()
    token.cancel_after(3600)
    await asyncio.to_thread(token.cancel)
    assert token.is_cancelled


def test_without_a_loop_cancel_after_uses_a_timer_thread() -> None:
    token = CancellationToken()
    cancelled = threading.Event()
    token.add_callback(cancelled.set)
    token.cancel_after(0.001)
    assert cancelled.wait(10)
    assert token.is_cancelled


def test_without_a_loop_an_early_cancel_stops_the_timer_thread() -> None:
    token = CancellationToken()
    token.cancel_after(3600)
    (timer,) = running_timers()
    token.cancel()
    timer.join(10)
    assert not timer.is_alive()


@pytest.mark.parametrize("seconds", [0, -1, -math.inf])
def test_a_time_that_has_passed_cancels_at_once(seconds: float) -> None:
    token = CancellationToken()
    token.cancel_after(seconds)
    assert token.is_cancelled


def test_an_infinite_time_starts_no_timer() -> None:
    token = CancellationToken()
    token.cancel_after(math.inf)
    assert not token.is_cancelled
    assert running_timers() == []


def test_a_time_that_is_no_number_is_refused() -> None:
    with pytest.raises(ValueError, match="NaN"):
        CancellationToken().cancel_after(math.nan)


def test_the_truth_is_the_same_in_every_thread() -> None:
    token = CancellationToken()
    token.cancel()
    seen: list[bool] = []
    in_other_thread(lambda: seen.append(token.is_cancelled()))
    assert seen == [True]


def test_an_unused_token_is_small() -> None:
    assert not hasattr(CancellationToken(), "__dict__")
