"""`python -m chaos.skewed SECONDS MODULE`: run a module with a wrong clock. Rule: only this process believes it."""

import runpy
import sys
import time


def _skew(seconds: float) -> None:
    """Shift what Python says the time is; waits and time-outs run on the monotonic clock and stay right."""
    right, right_ns, off_ns = time.time, time.time_ns, round(seconds * 1e9)
    time.time = lambda: right() + seconds
    time.time_ns = lambda: right_ns() + off_ns


if __name__ == "__main__":
    _skew(float(sys.argv[1]))
    module, sys.argv = sys.argv[2], sys.argv[2:]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
