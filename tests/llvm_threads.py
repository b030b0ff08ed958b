"""LLVM in many threads at once, longer than a test: `make llvm-threads`, or `python tests/llvm_threads.py --rounds 100`.

Each round is a fresh process in which threads begin to compile at the same moment, so that what LLVM sets up at its
first use is set up in a race, in another order each time; their object code must be that of one thread, byte for byte.

Where there is valgrind, its detector DRD then watches three threads and says which memory two of them use, one writing,
without a lock between. Everything is compiled once by one thread before: C++ makes local static variables behind guards,
which are no locks that DRD knows.
"""

from __future__ import annotations

import argparse
import hashlib
import pickle
import random
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import vitrify as torch
from vitrify import nn
from vitrify.codegen.llvm.compile import compile_module, compile_modules
from vitrify.codegen.target import Target


def modules() -> list[str]:
    """LLVM text of a training step with convolutions and norms, and of an attention layer."""
    net = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1),
        nn.MaxPool2d(2), nn.Flatten(), nn.Linear(1024, 32), nn.LayerNorm(32), nn.GELU(), nn.Linear(32, 10),
    )  # fmt: skip
    optimizer = torch.optim.Adam(net.parameters())

    @torch.compile
    def step(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(net(x), y)
        loss.backward()
        optimizer.step()
        return loss

    encoder = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True).eval()
    layer = torch.compile(lambda x: encoder(x))
    step(torch.randn(8, 3, 16, 16), torch.randint(0, 10, (8,)))
    with torch.no_grad():
        layer(torch.randn(2, 9, 32))
    return [text for f in (step, layer) for graph in f.graphs() for text in graph.llvm_modules]


def digest(objects: list[bytes]) -> str:
    return hashlib.sha256(b"".join(objects)).hexdigest()


def compiled_at_once(texts: list[str], target: Target, threads: int) -> list[bytes]:
    """Every module's object code, by threads that begin together and take the modules in orders of their own."""
    gate = threading.Barrier(threads)
    found: list[dict[int, bytes]] = [{} for _ in range(threads)]

    def work(number: int) -> None:
        order = random.sample(range(len(texts)), len(texts))
        gate.wait()
        for place in order:
            found[number][place] = compile_module(texts[place], target)

    workers = [threading.Thread(target=work, args=(n,)) for n in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for objects in found[1:]:
        assert objects == found[0], "threads compiled a module to different bytes"
    return [found[0][place] for place in range(len(texts))]


def child(path: str, threads: int, warm: bool) -> None:
    """What a round's process does: print the digest of what its threads compiled."""
    texts, target = pickle.loads(Path(path).read_bytes())
    if warm:
        compile_modules(texts, target, 1)
    print(digest(compiled_at_once(texts, target, threads)))


def races(report: str) -> list[str]:
    """The races in LLVM that DRD reports: two lines of each stack."""
    found = []
    for block in re.split(r"\n==\d+== \n", report):
        stack = re.findall(r"(?:at|by) 0x[0-9A-F]+: (.*)", block.split("Other segment")[0])
        if "Conflicting" in block and any("libllvmlite" in line for line in stack):
            found.append(" < ".join(line.split(" (in ")[0] for line in stack[:2]))
    return found


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--threads", type=int, default=4)
    parser.add_argument("--child", metavar="FILE", help=argparse.SUPPRESS)
    parser.add_argument("--warm", action="store_true", help=argparse.SUPPRESS)
    words = parser.parse_args()
    if words.child:
        child(words.child, words.threads, words.warm)
        return 0
    texts, target = modules(), Target.host()
    wanted = digest(compile_modules(texts, target, 1))
    own = [sys.executable, __file__, "--child"]
    with tempfile.TemporaryDirectory() as folder:
        some, few = Path(folder, "all"), Path(folder, "short")
        some.write_bytes(pickle.dumps((texts, target)))
        few.write_bytes(pickle.dumps((sorted(texts, key=len)[:5], target)))
        for number in range(words.rounds):
            done = subprocess.run(
                [*own, str(some), "--threads", str(words.threads)],
                capture_output=True,
                text=True,
                timeout=600,
            )
            if done.returncode or done.stdout.strip() != wanted:
                print(f"round {number}: status {done.returncode}\n{done.stdout}{done.stderr}")
                return 1
        print(
            f"{words.rounds} processes, {words.threads} threads, {len(texts)} modules: the bytes of one thread"
        )
        if shutil.which("valgrind") is None:
            print("no valgrind here: races are not looked for")
            return 0
        done = subprocess.run(
            ["valgrind", "--tool=drd", "--error-limit=no", "--check-stack-var=no",
             *own, str(few), "--threads", "3", "--warm"],
            capture_output=True, text=True, timeout=3600,
        )  # fmt: skip
        found = races(done.stderr)
        print(f"valgrind: {len(found)} races in LLVM, status {done.returncode}", *found[:20], sep="\n")
        return 1 if found or done.returncode else 0


if __name__ == "__main__":
    sys.exit(main())
