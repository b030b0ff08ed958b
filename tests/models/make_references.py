"""What PyTorch and ONNX Runtime compute with the trained models: python tests/models/make_references.py [NAME ...]

Needs torch, onnxruntime, safetensors, gguf, glassllm, Pillow, matplotlib and espeak-ng, and what `make models` fetches.
The programs in examples/ are PyTorch code, so PyTorch runs them here as they stand: `import vitrify` gives torch.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import types
import wave
from pathlib import Path

import gguf
import matplotlib
import numpy as np
import onnxruntime
import safetensors.torch
import torch
from PIL import Image, ImageDraw, ImageFont

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent / "examples"))
files = types.ModuleType("vitrify.serialization")
files.load_file = safetensors.torch.load_file
files.load_gguf = lambda path: gguf_tensors(path)
torch.Dim = lambda *bounds: None
sys.modules |= {
    "vitrify": torch, "vitrify.nn": torch.nn, "vitrify.nn.functional": torch.nn.functional,
    "vitrify.serialization": files,
}  # fmt: skip

import model_files  # noqa: E402

DATA = Path(matplotlib.get_data_path())


def gguf_tensors(path):
    reader = gguf.GGUFReader(path)
    tensors = {
        t.name: torch.from_numpy(gguf.quants.dequantize(t.data, t.tensor_type).copy()) for t in reader.tensors
    }
    return tensors, {key: field.contents() for key, field in reader.fields.items()}


def bert():
    import sentence_embeddings as program

    pieces = program.WordPieces(model_files.find("vocab.txt"))
    sentences = [
        "cat",
        "kitten",
        "The Treaty of Versailles was signed in 1919.",
        "Crème brûlée, 3 eggs & 200g sugar!",
    ]
    tokens = program.batch([pieces(s) for s in sentences])
    return {"sentences": np.array(sentences), "tokens": tokens, "vectors": program.load()(tokens)}


def speech():
    """Three clips of 1.6 s: a voice twice, and another one."""
    clips = []
    for voice, text in (
        ("en-us+m3", "Hello there, the quick brown fox jumps over the lazy dog"),
        ("en-us+m3", "We should go to the harbour in the morning and buy some fish"),
        ("en-us+f4", "Hello there, the quick brown fox jumps over the lazy dog"),
    ):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "speech.wav"
            subprocess.run(["espeak-ng", "-v", voice, "-w", str(path), text], check=True)
            with wave.open(str(path)) as file:
                rate, count = file.getframerate(), file.getnframes()
                samples = np.frombuffer(file.readframes(count), "<i2").astype(np.float64) / 32768
        at = np.arange(25600) / 16000 * rate
        clip = np.interp(at, np.arange(count), samples)
        clips.append(np.round(clip / np.abs(clip).max() * 127).astype(np.int8))
    return {"clips": np.stack(clips)}


def clips():
    with np.load(HERE / "speech.npz") as file:
        return file["clips"].astype(np.float32) / 127


def voice_encoder():
    import voice_encoder as program

    mels = torch.cat([program.pieces(torch.from_numpy(clip * 0.2)) for clip in clips()])
    return {"frames": mels[0, ::40], "vectors": program.load()(mels)}


def faces():
    import face_detection as program

    photo = Image.open(DATA / "sample_data" / "grace_hopper.jpg").crop((110, 60, 400, 350))
    photo = np.asarray(photo.resize((96, 96), Image.Resampling.BOX))
    nets = program.load()
    boxes, scores, points = program.detect(nets, photo, smallest=30)
    whole = torch.from_numpy(photo.copy()).permute(2, 0, 1)[None].float()
    square = program.squares(boxes)
    elsewhere = np.array([[66.0, 0.0, 96.0, 30.0]])
    found = {"photo": photo, "boxes": boxes, "scores": scores, "points": points}
    for net, size in zip(nets, (96, 24, 48)):
        crops = program.crops(whole, np.concatenate([square, elsewhere]), size) if size < 96 else whole
        outputs = net(program.normalized(crops))
        name = type(net).__name__.lower()
        found |= {f"{name}.{i}": output for i, output in enumerate(outputs)}
        if size < 96:
            found[f"{name}.crops"] = crops.round().byte()
            outputs = net(program.normalized(crops.round()))
            found |= {f"{name}.{i}": output for i, output in enumerate(outputs)}
    return found


def session(name):
    return onnxruntime.InferenceSession(model_files.find(name))


def voice_activity():
    found = {}
    run = session("silero_vad.onnx")
    silence = np.zeros(6400, np.float32)
    sound = np.concatenate([silence, clips()[0] * 0.5, silence])
    for rate, size in ((16000, 512), (8000, 256)):
        samples = sound if rate == 16000 else sound.reshape(-1, 2).mean(1)
        state, context, chances = np.zeros((2, 1, 128), np.float32), np.zeros(size // 8, np.float32), []
        for start in range(0, len(samples) - size + 1, size):
            heard = np.concatenate([context, samples[start : start + size]])
            chance, state = run.run(None, {"input": heard[None], "state": state, "sr": np.array(rate)})
            chances.append(chance.item())
            context = heard[-size // 8 :]
        found |= {f"chances.{rate}": np.array(chances, np.float32), f"state.{rate}": state}
    return found


def text():
    font = ImageFont.truetype(DATA / "fonts" / "ttf" / "DejaVuSans.ttf", 24)
    page = Image.new("L", (320, 96), 255)
    draw = ImageDraw.Draw(page)
    draw.text((12, 8), "Fluid while you write", fill=0, font=font)
    draw.text((12, 56), "glass once compiled", fill=40, font=font)
    line = page.crop((0, 0, 320, 48))
    prepare = lambda picture: (np.asarray(picture, np.float32)[None, None] / 127.5 - 1).repeat(3, 1)
    (chance,) = session("ch_PP-OCRv4_det_infer.onnx").run(None, {"x": prepare(page)})
    (characters,) = session("ch_PP-OCRv4_rec_infer.onnx").run(None, {"x": prepare(line)})
    upright = prepare(line.resize((192, 48)))
    (turned,) = session("ch_ppocr_mobile_v2.0_cls_infer.onnx").run(
        None, {"x": np.concatenate([upright, upright[:, :, ::-1, ::-1]])}
    )
    return {
        "page": np.asarray(page), "chance": chance.astype(np.float16), "line": np.asarray(line), "turned": turned,
        "best": characters.argmax(-1).astype(np.int16), "chances": characters.max(-1),
        "small": np.asarray(line.resize((192, 48))),
    }  # fmt: skip


def tiny_llama():
    """The package's own NumPy model."""
    from glassllm.model import GlassLM
    from glassllm.tokenizer import Tokenizer

    net = GlassLM.load(model_files.find("en.npz"))
    tokenizer = Tokenizer.load(model_files.find("en.tokenizer.json"))
    texts = ["The Professor said", "It was a  dark\nand stormy night; «he» asked"]
    numbers = [tokenizer.encode(text) for text in texts]
    written = [step.token for step in net.generate(numbers[0], 20, greedy=True)]
    return {
        "texts": np.array(texts), "first": np.array(numbers[0]), "second": np.array(numbers[1]),
        "scores": net.forward(numbers[1]).data[0, -1], "written": np.array(written),
    }  # fmt: skip


def smollm():
    import llama

    net, tokenizer = llama.smollm()
    prompt = tokenizer.encode("The capital of France is")
    session = llama.Session(net, 64, compiled=False)
    scores = session(prompt)
    session.start = 0
    written = list(session.write(prompt, 24))
    return {
        "prompt": np.array(prompt), "scores": scores[::64].numpy(), "written": np.array(written),
        "text": np.array(b"".join(map(tokenizer.bytes, written)).decode()),
    }  # fmt: skip


CASES = [bert, speech, voice_encoder, faces, voice_activity, text, tiny_llama, smollm]

if __name__ == "__main__":
    with torch.no_grad():
        for case in CASES:
            if not sys.argv[1:] or case.__name__ in sys.argv[1:]:
                arrays = {k: v.numpy() if isinstance(v, torch.Tensor) else v for k, v in case().items()}
                np.savez_compressed(HERE / f"{case.__name__}.npz", **arrays)
                print(case.__name__, sum(a.nbytes for a in arrays.values()) // 1024, "kB")
