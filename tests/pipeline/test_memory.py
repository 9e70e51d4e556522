"""What a compile of large weights takes of private memory, its proof and agreement included."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tools.bench_peers import big

WIDTH, HIDDEN, LAYERS = 1024, 2048, 8
MEGABYTES = LAYERS * 2 * WIDTH * HIDDEN * 4 / 2**20
"""134 million bytes in weights of 8 MiB each."""
GROWTH = """
import sys
from pathlib import Path
import graphprune
from tools.bench_peers.measure import Sampler, private_megabytes

def compiled(path):
    graphprune.compile(path, "prune(criterion=l1)", path.with_name("small.onnx"), force=True, bench=False)

compiled(Path(sys.argv[1]))  # imports, and what they keep
before = private_megabytes()
with Sampler() as sampler:
    compiled(Path(sys.argv[2]))
print(sampler.whole - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="private memory is read from /proc")
def test_a_compile_holds_a_few_weights_at_a_time(tmp_path: Path) -> None:
    """Neither the masked model nor the result nor the dense one is ever in memory whole."""
    tiny, large = tmp_path / "tiny.onnx", tmp_path / "large.onnx"
    big.write(tiny, 64, 64, 2)
    big.write(large, WIDTH, HIDDEN, LAYERS)
    done = subprocess.run(
        [sys.executable, "-c", GROWTH, str(tiny), str(large)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert not done.returncode, done.stderr
    assert float(done.stdout) < MEGABYTES / 2
