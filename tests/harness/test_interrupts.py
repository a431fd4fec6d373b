"""A stop that someone asked for is heard, also when Python drops the exception."""

from __future__ import annotations

import os
import signal

import pytest

from harness.interrupts import SIGNALS, StopRequest


@pytest.mark.parametrize("number", SIGNALS)
def test_both_signals_interrupt_and_are_remembered(number: signal.Signals) -> None:
    with StopRequest() as stop:
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
        with pytest.raises(KeyboardInterrupt):
            stop.check()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupt_that_a_finalizer_swallows_is_heard_at_the_next_check() -> None:
    class Finalized:
        def __del__(self) -> None:
            os.kill(os.getpid(), signal.SIGINT)

    with StopRequest() as stop:
        stop.check()
        one = Finalized()
        del one
        with pytest.raises(KeyboardInterrupt):
            stop.check()


def test_the_handlers_of_before_come_back() -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    with StopRequest():
        pass
    assert [signal.getsignal(number) for number in SIGNALS] == before
