"""What tuning gains, and what it costs: whole models, inference, tuned and as the cost models choose.

    python benchmarks/tuning.py --threads 1 --seconds 60

Both versions of a model run in turns; the least time of each counts. On one thread it is the thread's CPU time, which
leaves out what other processes take. Tuning starts from nothing known (a disk cache of its own, empty).
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time

import numpy as np
from model_networks import MODELS

import vitrify

ROUNDS = 40


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=30.0, help="budget of tuning a model")
    parser.add_argument("--only", default="", help="a part of the models' names")
    options = parser.parse_args()
    vitrify.set_num_threads(options.threads)
    print(
        "| inference | the model's choice | tuned | tuned / not | questions, answered otherwise, left | s | CPU s |"
    )
    print("|---|---|---|---|---|---|---|")
    for name, model in MODELS.items():
        if options.only in name:
            for batch in model.batches:
                with tempfile.TemporaryDirectory() as folder, vitrify.no_grad():
                    os.environ["VITRIFY_CACHE_DIR"] = folder
                    line(name, batch, options.threads, options.seconds)


def line(name: str, batch: int, threads: int, budget: float) -> None:
    """Measure a model, and print its line of the table."""
    vitrify.manual_seed(0)
    model = MODELS[name].make(vitrify).eval()
    *given, _ = MODELS[name].inputs(batch)
    args = [vitrify.from_numpy(a) for a in given]
    plain = vitrify.compile(model)
    tuned = vitrify.compile(model, options={"tune": True, "tune_seconds": budget})
    plain(*args)
    cpu = time.process_time()
    tuned(*args)
    cpu = time.process_time() - cpu
    facts = tuned.explain().to_dict()["graphs"][0]["tuning"]
    clock = time.thread_time if threads == 1 else time.perf_counter
    best = [float("inf")] * 2
    for turn in range(ROUNDS):
        for number in (0, 1) if turn % 2 else (1, 0):
            start = clock()
            (plain, tuned)[number](*args)
            best[number] = min(best[number], clock() - start)
    before, after = np.array(best) * 1e3
    changed = sum(c["chosen"] > 0 for c in facts["choices"])
    print(
        f"| {name}, batch {batch} | {before:.2f} ms | {after:.2f} ms | {after / before:.2f} "
        f"| {len(facts['choices'])}, {changed}, {facts['left']} | {facts['seconds']:.0f} | {cpu:.0f} |",
        flush=True,
    )


if __name__ == "__main__":
    main()
