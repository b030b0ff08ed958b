"""Networks of torchvision, timm, transformers and diffusers, as they come from PyPI, with random weights: vitrify beside
PyTorch, ONNX Runtime and OpenVINO. To find what no benchmark of chosen shapes shows: the layers that are slow.

    python benchmarks/networks.py [--only swin] [--training] [--batch 4] [--size 128] [--threads 1]
                                  [--rounds 3] [--seconds 0.6]

needs `pip install torchvision timm transformers diffusers` beside the extra `bench`. Every competitor is a process of
its own, which runs this file: vitrify's by `vitrify run`, where `import torch` is vitrify. They take turns block by
block; figures are medians of the blocks' medians, the ratio is vitrify's time to that of the fastest other. ONNX Runtime
and OpenVINO run what `vitrify.onnx.export` wrote, for inference alone; a training step is a loss, its gradients and SGD
with momentum. `apart`: how far the sum of all results is from PyTorch's.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

VISION = (
    "alexnet", "vgg11", "googlenet", "inception_v3", "resnet50", "resnext50_32x4d", "densenet121", "mnasnet1_0",
    "shufflenet_v2_x1_0", "mobilenet_v2", "mobilenet_v3_large", "efficientnet_b0", "efficientnet_v2_s", "regnet_y_400mf",
    "convnext_tiny", "vit_b_16", "swin_t", "swin_v2_t", "maxvit_t", "deeplabv3_mobilenet_v3_large",
    "lraspp_mobilenet_v3_large",
)  # fmt: skip
VIDEO = ("r3d_18", "s3d")
TIMM = (
    "mixer_s32_224", "mobilevit_s", "levit_128s", "poolformer_s12", "coat_lite_tiny", "edgenext_small", "ghostnet_100",
    "hardcorenas_a", "res2net50_26w_4s", "convmixer_768_32", "gmlp_s16_224", "xcit_nano_12_p16_224",
)  # fmt: skip
TEXT = ("bert", "gpt2", "llama", "t5", "mamba")
IMAGES = ("unet", "autoencoder")
NAMES = (*VISION, *VIDEO, *TIMM, *TEXT, *IMAGES)

Json = dict[str, Any]


def network(name: str, batch: int, size: int) -> tuple[Any, tuple[Any, ...]]:
    """The network, whose result is one tensor, and its arguments."""
    import torch

    torch.manual_seed(0)
    if name in VISION or name in VIDEO:
        import torchvision.models as models

        given: Json = {"weights": None}
        if "deeplab" in name or "lraspp" in name:
            given["weights_backbone"] = None
        if name in ("googlenet", "inception_v3"):
            given |= {"aux_logits": False, "init_weights": False}
        frames = (16,) if name in VIDEO else ()
        net = models.get_model(name, **given)
        net = _part(net, "out") if "weights_backbone" in given else net
        return net, (torch.randn(batch, 3, *frames, size, size),)
    if name in TIMM:
        import timm

        return timm.create_model(name, pretrained=False), (torch.randn(batch, 3, size, size),)
    if name in TEXT:
        return _of_text(name), (torch.randint(0, 1000, (batch, 64)),)
    import diffusers

    if name == "unet":
        unet = diffusers.UNet2DModel(
            sample_size=32, block_out_channels=(64, 128, 128, 256), layers_per_block=1, norm_num_groups=16
        )
        return _part(unet), (torch.randn(batch, 3, 64, 64), torch.tensor([3] * batch))
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    net = diffusers.AutoencoderKL(block_out_channels=(64, 128), norm_num_groups=16, **blocks)
    return _part(net), (torch.randn(batch, 3, 128, 128),)


def _of_text(name: str) -> Any:
    """Six layers of 384, but for Mamba's four of 256."""
    import transformers as t

    common = {"vocab_size": 8192}
    sizes = {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 6}
    match name:
        case "bert":
            return _part(t.BertModel(t.BertConfig(**common, **sizes, intermediate_size=1536)))
        case "gpt2":
            return _part(
                t.GPT2LMHeadModel(t.GPT2Config(**common, n_embd=384, n_layer=6, n_head=6)), use_cache=False
            )
        case "llama":
            config = t.LlamaConfig(**common, **sizes, num_key_value_heads=2, intermediate_size=1024)
            return _part(t.LlamaForCausalLM(config), use_cache=False)
        case "t5":
            config = t.T5Config(**common, d_model=384, num_layers=6, num_heads=6, d_ff=1024, d_kv=64)
            return _part(t.T5EncoderModel(config))
    config = t.MambaConfig(**common, hidden_size=256, num_hidden_layers=4)
    return _part(t.MambaForCausalLM(config), use_cache=False)


def _part(net: Any, part: Any = 0, **given: Any) -> Any:
    """The network with one of its results."""
    import torch

    class Part(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, *args: Any) -> Any:
            return self.net(*args, **given)[part]

    return Part()


# -- a competitor's process: asked by lines of JSON, answers by such ---------------------------------------------------


class OfModules:
    """vitrify, where this process is run by it, and PyTorch."""

    def __init__(self, threads: int):
        import torch

        torch.set_num_threads(threads)
        self.torch = torch
        self.compiles = "vitrify" in sys.modules
        self.run: Callable[[], Any] = lambda: None

    def build(self, name: str, batch: int, size: int, training: bool) -> Json:
        torch, compiled = self.torch, self.torch.compile if self.compiles else lambda f: f
        net, args = network(name, batch, size)
        net.train(training)
        optimizer = torch.optim.SGD(net.parameters(), lr=1e-4, momentum=0.9)

        def step() -> Any:
            optimizer.zero_grad()
            loss = (net(*args).float() ** 2).mean()
            loss.backward()
            optimizer.step()
            return loss.detach()

        call = compiled(step if training else net)

        def run() -> Any:
            with torch.set_grad_enabled(training):
                return call() if training else call(*args)

        self.run = run
        start = time.perf_counter()
        found = run()
        first = time.perf_counter() - start
        run()
        return {"first": first, "sum": float(found.double().abs().sum())}

    def export(self, name: str, batch: int, size: int, folder: str) -> Json:
        import onnx

        import vitrify.onnx

        net, args = network(name, batch, size)
        vitrify.onnx.export(net.eval(), args, f"{folder}/net.onnx")
        names = [i.name for i in onnx.load(f"{folder}/net.onnx").graph.input]
        np.savez(f"{folder}/args.npz", **{n: a.numpy() for n, a in zip(names, args, strict=True)})
        return {}


class OfFiles:
    """ONNX Runtime and OpenVINO."""

    def __init__(self, kind: str, threads: int):
        self.kind, self.threads = kind, threads
        self.run: Callable[[], Any] = lambda: None

    def build(self, folder: str) -> Json:
        from others import onnx_runtime, openvino

        make = onnx_runtime if self.kind == "ONNX Runtime" else openvino
        run = make(Path(folder, "net.onnx"), np.load(f"{folder}/args.npz"), self.threads)
        if run is None:
            raise RuntimeError("is not installed, or does not take the network")
        self.run = run
        for _ in range(3):
            self.run()
        return {}


def serve(kind: str, threads: int) -> None:
    """Answers until its input ends. What libraries print goes to the errors."""
    from timing import block

    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    one: Any = OfModules(threads) if kind in ("vitrify", "PyTorch") else OfFiles(kind, threads)
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            if asked["do"] == "time":
                answer: Json = {"seconds": block(one.run, asked["seconds"])}
            else:
                answer = getattr(one, asked["do"])(*asked["given"])
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")


# -- the table ---------------------------------------------------------------------------------------------------------


class Competitor:
    """A process that serves."""

    def __init__(self, kind: str, threads: int):
        run = ["-m", "vitrify", "run"] if kind == "vitrify" else []
        command = [sys.executable, *run, __file__, "--serve", kind, "--threads", str(threads)]
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
        )

    def ask(self, do: str, *given: Any, **more: Any) -> Json:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps({"do": do, "given": given, **more}) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        answer: Json = json.loads(line) if line else {"error": "the process ended"}
        return answer


def row(name: str, options: argparse.Namespace, others: Sequence[str]) -> float | None:
    """Times and prints one network; the ratio, where all went well."""
    modules = {kind: Competitor(kind, options.threads) for kind in ("vitrify", "PyTorch")}
    files = {kind: Competitor(kind, options.threads) for kind in others}
    with tempfile.TemporaryDirectory() as folder:
        size = (
            112 if name in VIDEO and options.size == 224 else 299 if name == "inception_v3" else options.size
        )
        built = {k: c.ask("build", name, options.batch, size, options.training) for k, c in modules.items()}
        if files:
            written = modules["vitrify"].ask("export", name, options.batch, size, folder)
            built |= {k: written if "error" in written else c.ask("build", folder) for k, c in files.items()}
        both = {**modules, **files}
        running = {kind: both[kind] for kind, found in built.items() if "error" not in found}
        blocks: dict[str, list[float]] = {kind: [] for kind in running}
        for _ in range(options.rounds):
            for kind, competitor in running.items():
                blocks[kind].append(competitor.ask("time", seconds=options.seconds)["seconds"])
    for competitor in both.values():
        competitor.process.kill()
    found = {kind: statistics.median(times) * 1e3 for kind, times in blocks.items()}
    failed = [f"{kind}: {answer['error'][:100]}" for kind, answer in built.items() if "error" in answer]
    slower = [milliseconds for kind, milliseconds in found.items() if kind != "vitrify"]
    ratio = found["vitrify"] / min(slower) if "vitrify" in found and slower else None
    sums = [built[kind].get("sum", math.nan) for kind in modules]
    apart = abs(sums[0] - sums[1]) / max(abs(sums[1]), 1e-30)
    shown = ", ".join(f"{kind} {milliseconds:.3g}" for kind, milliseconds in found.items())
    first = built["vitrify"].get("first", math.nan)
    print(
        f"| {name} | {shown} | {'' if ratio is None else f'{ratio:.2f}'} | {first:.1f} s | {apart:.0e} |"
        + "".join(f" {text}" for text in failed),
        flush=True,
    )
    return ratio


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="")
    parser.add_argument("--training", action="store_true")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=0.6)
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve, options.threads)
        return
    others = () if options.training else ("ONNX Runtime", "OpenVINO")
    print("| network | ms | ratio | first call | apart |\n|---|---|---|---|---|")
    ratios = [row(name, options, others) for name in NAMES if options.only in name]
    known = [r for r in ratios if r is not None]
    if known:
        print(f"geometric mean of {len(known)}: {math.exp(sum(map(math.log, known)) / len(known)):.2f}")


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    main()
