"""Interrupts of a run: raised, or passed to a function, and never lost to a library's own handler."""

from __future__ import annotations

import signal

import pytest

from fer_stream.system.interrupts import (
    call_on_interrupt,
    handlers_kept,
    interrupts_deferred,
    interrupts_raised,
)

NUMBERS = [signal.SIGINT, signal.SIGTERM]


@pytest.mark.parametrize("number", NUMBERS)
def test_an_interrupt_is_raised_except_where_a_function_is_told(number: int) -> None:
    before, told = signal.getsignal(number), []
    with interrupts_raised():
        with call_on_interrupt(lambda: told.append(number)):
            signal.raise_signal(number)
        assert told == [number]
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
    assert told == [number] and signal.getsignal(number) == before


@pytest.mark.parametrize("number", NUMBERS)
def test_a_library_that_replaces_a_handler_does_not_keep_it(number: int) -> None:
    with interrupts_raised():
        before = signal.getsignal(number)
        with handlers_kept() as restore:
            signal.signal(number, signal.SIG_IGN)
            restore()
            assert signal.getsignal(number) == before
            signal.signal(number, signal.SIG_IGN)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)


@pytest.mark.parametrize("number", NUMBERS)
def test_a_deferred_interrupt_is_raised_at_the_end_and_a_second_one_at_once(number: int) -> None:
    reached = []
    for times in (0, 1, 2):
        try:
            with interrupts_raised(), interrupts_deferred():
                for _ in range(times):
                    signal.raise_signal(number)
                reached.append(("end", times))
            reached.append(("after", times))
        except KeyboardInterrupt:
            reached.append(("raised", times))
    assert reached == [("end", 0), ("after", 0), ("end", 1), ("raised", 1), ("raised", 2)]
