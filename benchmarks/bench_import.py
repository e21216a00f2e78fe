"""What importing the course's library costs above importing torch, in fresh processes."""

import statistics
import subprocess
import sys

ROUNDS = 5
LIBRARY = "from course_lib import batches, cnn, data, recipes, runtime, train"


def seconds(before: str, timed: str) -> float:
    """Seconds that `timed` takes in a new process in which `before` has run."""
    code = (
        f"import time; {before}; t = time.perf_counter(); {timed}; print(time.perf_counter() - t)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(done.stdout)


def main() -> None:
    torch_alone = statistics.median(seconds("pass", "import torch") for _ in range(ROUNDS))
    library = statistics.median(seconds("import torch", LIBRARY) for _ in range(ROUNDS))
    print(f"torch {torch_alone:.2f} s; course_lib above it {library:.2f} s (target: at most 0.3 s)")


if __name__ == "__main__":
    main()
