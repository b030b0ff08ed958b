"""When does somebody speak? A streaming net from an ONNX file, its state carried from chunk to chunk, compiled.

    make models
    python examples/voice_activity.py recording.wav

The recording is 16-bit mono WAV of 16 or 8 kHz; the net is Silero VAD. It hears 32 ms at a time and gives the chance
that there is speech in them.
"""

import sys
import time
import wave

import model_files
import numpy as np

import vitrify as torch


class VoiceActivity:
    """Chunks of 32 ms, [512] samples at 16 kHz or [256] at 8 kHz -> the chance of speech in each."""

    def __init__(self, rate, compiled=True):
        net = torch.onnx.load(model_files.find("silero_vad.onnx"))
        self.net = torch.compile(net) if compiled else net
        self.rate = torch.tensor(rate)
        self.size = 512 if rate == 16000 else 256
        self.start()

    def start(self):
        """Forget what was heard."""
        self.context = torch.zeros(1, self.size // 8)  # the last samples of the chunk before
        self.state = torch.zeros(2, 1, 128)

    def __call__(self, chunk):
        heard = torch.cat([self.context, chunk.reshape(1, self.size)], 1)
        with torch.no_grad():
            chance, self.state = self.net(heard, self.state, self.rate)
        self.context = heard[:, -self.context.shape[1] :]
        return chance.item()


def stretches(chances, on=0.5, off=0.35):
    """(first, last) chunks of speech: it begins above `on` and goes on until it is below `off`."""
    found, first = [], None
    for number, chance in enumerate([*chances, 0.0]):
        if first is None and chance >= on:
            first = number
        elif first is not None and chance < off:
            found.append((first, number - 1))
            first = None
    return found


def main():
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    with wave.open(sys.argv[1]) as file:
        rate = file.getframerate()
        if rate not in (8000, 16000) or file.getsampwidth() != 2 or file.getnchannels() != 1:
            sys.exit("16-bit mono WAV of 16 or 8 kHz is needed")
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.float32) / 32768
    listen = VoiceActivity(rate)
    chunks = torch.from_numpy(samples[: len(samples) // listen.size * listen.size]).reshape(-1, listen.size)
    listen(torch.zeros(listen.size))  # compiles
    listen.start()
    start = time.perf_counter()
    chances = [listen(chunk) for chunk in chunks]
    print(f"{len(chances) * 0.032:.1f} s heard in {time.perf_counter() - start:.3f} s")
    for first, last in stretches(chances):
        print(f"{first * 0.032:8.2f} to {(last + 1) * 0.032:.2f} s")


if __name__ == "__main__":
    try:
        main()
    except (OSError, EOFError, wave.Error) as error:  # no such recording, not one, or no model files
        sys.exit(str(error) or "the recording is empty")
