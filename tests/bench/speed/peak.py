"""Runs a command and prints its time, memory and CPU as JSON: `python -m tests.bench.speed.peak COMMAND …`.

A process of its own, because the kernel counts a child's peak from the memory of the process that started it.
"""

import json
import resource
import subprocess
import sys
import time

if __name__ == "__main__":
    began = time.monotonic()
    code = subprocess.run(sys.argv[1:], check=False).returncode
    ended = time.monotonic()
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(
        json.dumps(
            {
                "exit_code": code,
                "peak_mb": used.ru_maxrss * 1024 / 1e6,
                "cpu_s": used.ru_utime + used.ru_stime,
                "began": began,
                "ended": ended,
            }
        )
    )
