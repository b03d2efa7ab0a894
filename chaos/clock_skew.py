"""`python -m chaos.clock_skew SECONDS AFTER_S MODULE`: run a module whose clock jumps. Rule: it deceives no other."""

import runpy
import sys
import time


def _skew(seconds: float, after_s: float) -> None:
    """Shift what Python says the time is, from so many seconds on; waits run on the monotonic clock and stay right."""
    right, right_ns, jumps_at = time.time, time.time_ns, time.monotonic() + after_s

    def off_s() -> float:
        return seconds if time.monotonic() >= jumps_at else 0.0

    time.time = lambda: right() + off_s()
    time.time_ns = lambda: right_ns() + round(off_s() * 1e9)


if __name__ == "__main__":
    _skew(float(sys.argv[1]), float(sys.argv[2]))
    module, sys.argv = sys.argv[3], sys.argv[3:]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
