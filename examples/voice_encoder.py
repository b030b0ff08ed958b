"""Is it the same speaker? A trained three-layer LSTM from a PyTorch checkpoint, compiled.

    make models
    python examples/voice_encoder.py one.wav two.wav ...

Each recording (16-bit WAV, 16 kHz, speech without long pauses) becomes a unit vector; the table printed is of their
products. The weights are those of Resemblyzer (Wan et al. 2018, "Generalized end-to-end loss for speaker verification").
"""

import math
import sys
import wave

import model_files
import numpy as np

import vitrify as torch
import vitrify.nn as nn
import vitrify.nn.functional as F

RATE, WINDOW, HOP, MELS = 16000, 400, 160, 40
FRAMES = 160  # the LSTM was trained on pieces of 1.6 s


class VoiceEncoder(nn.Module):
    """Mel spectrograms [batch, frames, 40] -> unit vectors [batch, 256]."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(MELS, 256, num_layers=3, batch_first=True)
        self.linear = nn.Linear(256, 256)

    def forward(self, mels):
        _, (hidden, _) = self.lstm(mels)
        return F.normalize(F.relu(self.linear(hidden[-1])), dim=1)


def load():
    """The net with its trained weights; the file also holds the training's loss and step."""
    net = VoiceEncoder().eval()
    state = torch.load(model_files.find("pretrained.pt"), map_location="cpu")["model_state"]
    net.load_state_dict({k: v for k, v in state.items() if not k.startswith("similarity_")})
    return net


def mel_filters():
    """Triangles [40, 201] over the spectrum's frequencies, of equal area, at equal steps of Slaney's mel scale: linear
    up to 1 kHz, logarithmic above."""
    step, knee = 200 / 3, 1000.0
    ratio = math.log(6.4) / 27
    top = knee / step + math.log(RATE / 2 / knee) / ratio
    mels = torch.linspace(0, top, MELS + 2, dtype=torch.float64)
    edges = torch.where(mels < knee / step, mels * step, knee * torch.exp(ratio * (mels - knee / step)))
    bins = torch.linspace(0, RATE / 2, WINDOW // 2 + 1, dtype=torch.float64)
    low, middle, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    sides = torch.minimum((bins - low) / (middle - low), (high - bins) / (high - middle))
    return (torch.clamp(sides, min=0) * 2 / (high - low)).float()


def mel_spectrogram(samples):
    """Samples in [-1, 1] -> [frames, 40], a frame each 10 ms."""
    spectrum = torch.stft(
        samples, WINDOW, HOP, window=torch.hann_window(WINDOW), pad_mode="constant", return_complex=True
    )
    return (mel_filters() @ spectrum.abs() ** 2).T


def pieces(samples):
    """Spectrograms [pieces, FRAMES, 40] of overlapping pieces of a recording, the last one filled up with silence."""
    length, step = FRAMES * HOP, FRAMES * HOP // 2
    count = max(1, math.ceil((len(samples) - length) / step) + 1)
    padded = F.pad(samples, (0, (count - 1) * step + length - len(samples)))
    mels = mel_spectrogram(padded)
    return torch.stack([mels[i * FRAMES // 2 :][:FRAMES] for i in range(count)])


def read(path):
    """The samples of a recording, as loud on average as the training data (-30 dB of full scale)."""
    with wave.open(path) as file:
        if (file.getframerate(), file.getsampwidth(), file.getnchannels()) != (RATE, 2, 1):
            sys.exit(f"{path}: 16-bit mono WAV of {RATE} Hz is needed")
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.float32) / 32768
    return torch.from_numpy(samples * 10 ** (-30 / 20) / max(np.sqrt(np.mean(samples**2)), 1e-9))


def main():
    if len(sys.argv) < 2 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    encode = torch.compile(load(), dynamic_shapes={"mels": {0: torch.Dim("pieces", 1, 256)}})
    with torch.no_grad():
        voices = [F.normalize(encode(pieces(read(path))).mean(0), dim=0) for path in sys.argv[1:]]
    table = torch.stack(voices) @ torch.stack(voices).T
    for path, row in zip(sys.argv[1:], table.tolist()):
        print(" ".join(f"{score:5.2f}" for score in row), path, sep="  ")


if __name__ == "__main__":
    try:
        main()
    except (OSError, EOFError, wave.Error) as error:  # no such recording, not one, or no model files
        sys.exit(str(error) or "the recording is empty")
