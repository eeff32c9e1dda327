"""What starts processes for the tests tells where one hangs."""

from __future__ import annotations

import os
import re
import sys

import pytest
from process import start


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lists a group's processes")
def test_a_process_that_does_not_end_says_where_its_threads_are():
    """Those of its children, too, which may be what it waits for."""
    script = """
        def sits_here():
            threading.Event().wait()
        if os.fork() == 0:
            sits_here()
        threading.Thread(target=sits_here).start()
        say("waits")
    """
    with start(script) as process:
        process.wait_for("waits")
        with pytest.raises(AssertionError, match="did not end") as caught:
            process.ended(0.1)

    assert str(caught.value).count("in sits_here") == 2


@pytest.mark.skipif(not os.path.exists("/proc/self/schedstat"), reason="only Linux tells, and not every one")
def test_an_end_that_takes_its_time_says_what_its_threads_do(capsys: pytest.CaptureFixture[str]):
    """Where the bound of a stop does not hold, pytest shows that with the failure."""
    with start("threading.Thread(target=pause, args=(0.5,)).start()") as process:
        process.ended()

    said = capsys.readouterr().out.splitlines()
    looks = [
        line for line in said if re.match(rf"{process.pid} after 0\.\d+ s: S in \d+ \(\d+, \d+\), S in \d+ ", line)
    ]
    assert len(looks) > 3
    assert re.search(r"; load [\d.]+, [\d.]+ s stolen$", looks[-1])
    assert re.fullmatch(rf"{process.pid} has ended after [\d.]+ s", said[-1])
