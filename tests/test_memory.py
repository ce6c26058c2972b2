import subprocess
import sys

import pytest

SCRIPT = """
import resource, torch
from resnet_gp.memory import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        [torch.zeros(2**20, dtype=torch.float64) for _ in range(4)]  # 8 MiB each, 2048 pages
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

keep_freed_memory()
faults()
print(faults())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="about glibc")
def test_freed_memory_serves_the_next_tensors():
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 2048
