"""What of exit, signals and fork can be looked at without ending a process; the rest is in tests/integration."""

from __future__ import annotations

import threading

from inproc_jobs import Job, restart, shutdown

WAIT = 10.0


class Idle(Job):
    def perform(self):
        pass


def test_no_listener_is_left_however_quickly_shutdowns_follow_each_other():
    """Each shutdown ends one thread that listens to signals, also while the one before has not ended yet."""
    for _ in range(300):
        Idle.perform_in(60)
        shutdown(0)
        restart()

    shutdown(0)
    listeners = [thread for thread in threading.enumerate() if thread.name == "inproc_jobs-signals"]
    for thread in listeners:
        thread.join(WAIT)
    assert not [thread for thread in listeners if thread.is_alive()]
