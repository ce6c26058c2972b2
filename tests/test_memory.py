import subprocess
import sys

import pytest

SCRIPT = """
import resource, torch
from resnet_gp.memory import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        one = torch.ones(2**20, dtype=torch.float64)
        two = one + 1
        three = two * 2
        four = one + three
        del one, two, three, four
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
    assert int(done.stdout) < 5000
