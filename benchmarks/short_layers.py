"""Linear layers in float32, bfloat16 and int8, compiled, beside PyTorch's: eager layers, and dynamically quantized ones.

    python benchmarks/short_layers.py [--threads 1,2] [--seconds 0.5]

vitrify's layers come from `optimize_for_inference`, PyTorch's int8 ones from `quantize_dynamic`; all calls are Python
calls under `no_grad`, in turn, block by block. Weights are packed before: by PyTorch when the layer is quantized, here
by the first call. Figures are medians in µs.
"""

from __future__ import annotations

import argparse
import copy
import warnings
from collections.abc import Callable, Iterator

import torch
from timing import interleaved

import vitrify

ROUNDS = 5
SIZES = ((1024, 1024), (768, 3072))
BATCHES = (1, 8, 32, 128, 1024)
KINDS = ("fp32", "bf16", "int8")


def layers(inner: int, outer: int, batch: int) -> Iterator[tuple[str, Callable[[], object]]]:
    """Calls of each kind of layer on the same input, vitrify's and PyTorch's."""
    theirs = torch.nn.Sequential(torch.nn.Linear(inner, outer), torch.nn.ReLU()).eval()
    ours = vitrify.nn.Sequential(vitrify.nn.Linear(inner, outer), vitrify.nn.ReLU()).eval()
    ours.load_state_dict(
        {name: vitrify.from_numpy(p.detach().numpy()) for name, p in theirs.named_parameters()}
    )
    x = torch.randn(batch, inner)
    y = vitrify.from_numpy(x.numpy())
    for kind in KINDS:
        found = vitrify.compile(vitrify.optimize_for_inference(ours, y, precision=kind))
        yield f"vitrify {kind}", lambda found=found: found(y)
    yield "PyTorch fp32", lambda: theirs(x)
    short, z = copy.deepcopy(theirs).bfloat16(), x.bfloat16()
    yield "PyTorch bf16", lambda: short(z)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is to be moved to another package
        quantized = torch.ao.quantization.quantize_dynamic(theirs, {torch.nn.Linear}, dtype=torch.qint8)
    yield "PyTorch int8", lambda: quantized(x)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--seconds", type=float, default=0.5, help="for each row")
    options = parser.parse_args()
    for threads in map(int, options.threads.split(",")):
        torch.set_num_threads(threads)
        vitrify.set_num_threads(threads)
        titles = [f"{who} {kind}" for kind in KINDS for who in ("vitrify", "PyTorch")]
        print(
            f"\n{threads} thread{'s' if threads > 1 else ''}: "
            + ", ".join(titles)
            + "; PyTorch / vitrify each"
        )
        for inner, outer in SIZES:
            for batch in BATCHES:
                with torch.no_grad(), vitrify.no_grad():
                    runs = dict(layers(inner, outer, batch))
                    times = interleaved(runs, ROUNDS, options.seconds / (len(runs) * ROUNDS))
                shown = " ".join(f"{times[title] * 1e6:9.1f}" for title in titles)
                ratios = " ".join(f"{times[f'PyTorch {k}'] / times[f'vitrify {k}']:5.2f}" for k in KINDS)
                print(f"{batch:5}x{inner}x{outer} {shown}  {ratios}", flush=True)


if __name__ == "__main__":
    main()
