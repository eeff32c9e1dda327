"""What starts processes for the tests tells where one hangs."""

from __future__ import annotations

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
