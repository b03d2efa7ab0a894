"""`python -m chaos.clock_skew SECONDS AFTER_S MODULE`: run a module with a shifted clock, in this process only."""

import runpy
import sys
import time


def _skew(seconds: float, after_s: float) -> None:
    """Shift `time.time` by `seconds` after `after_s` seconds; the monotonic clock, and so all waits, stay correct."""
    real_time, real_time_ns, jumps_at = time.time, time.time_ns, time.monotonic() + after_s

    def offset_s() -> float:
        return seconds if time.monotonic() >= jumps_at else 0.0

    time.time = lambda: real_time() + offset_s()
    time.time_ns = lambda: real_time_ns() + round(offset_s() * 1e9)


if __name__ == "__main__":
    _skew(float(sys.argv[1]), float(sys.argv[2]))
    module, sys.argv = sys.argv[3], sys.argv[3:]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
