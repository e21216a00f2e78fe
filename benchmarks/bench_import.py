"""What importing the course's library costs above importing torch, in fresh processes."""

import statistics
import subprocess
import sys
from collections.abc import Iterator

from rows import Plan, Record, Row, run

LIBRARY = "from course_lib import batches, cnn, data, recipes, runtime, train"


def seconds() -> float:
    """That the library takes in a new process in which torch is there."""
    code = "import time, torch; t = time.perf_counter(); "
    code += f"{LIBRARY}; print(time.perf_counter() - t)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(done.stdout)


def measure(plan: Plan) -> Iterator[Record]:
    taken = [seconds() for _ in range(plan.pick(3, 1))]
    row = Row("others", "importing the library, above torch", "a fresh process", "", "s", goal=0.3)
    yield Row(**{**row.__dict__, "ours": statistics.median(taken), "rounds": len(taken)})


if __name__ == "__main__":
    run(measure, __doc__)
