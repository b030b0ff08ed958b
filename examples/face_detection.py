"""Where are faces? Three trained convolutional nets from PyTorch checkpoints, each more certain than the one before.

    make models
    python examples/face_detection.py photo.jpg

Zhang et al. 2016, "Joint face detection and alignment using multitask cascaded convolutional networks", with the
weights of facenet-pytorch. P-net looks at the whole photo at several scales; R-net and O-net look at what it proposes.
"""

import sys
import time

import model_files
import numpy as np
from PIL import Image

import vitrify as torch
import vitrify.nn as nn
import vitrify.nn.functional as F


class Net(nn.Module):
    """Convolutions with PReLU and pools, [batch, 3, h, w] -> features. `layout`: (channels, kernel, pool's kernel)."""

    def __init__(self, *layout):
        super().__init__()
        self.pools = [pool for _, _, pool in layout]
        channels = [3, *(c for c, _, _ in layout)]
        for i, (_, kernel, _) in enumerate(layout, 1):
            self.add_module(f"conv{i}", nn.Conv2d(channels[i - 1], channels[i], kernel))
            self.add_module(f"prelu{i}", nn.PReLU(channels[i]))

    def features(self, x):
        for i, pool in enumerate(self.pools, 1):
            x = getattr(self, f"prelu{i}")(getattr(self, f"conv{i}")(x))
            if pool:
                x = F.max_pool2d(x, pool, 2, ceil_mode=True)
        return x


class PNet(Net):
    """-> for each 12x12 window, every second pixel, how to move its box [batch, 4, h, w], and how likely it is of a
    face [batch, h, w]."""

    def __init__(self):
        super().__init__((10, 3, 2), (16, 3, None), (32, 3, None))
        self.conv4_1 = nn.Conv2d(32, 2, 1)
        self.conv4_2 = nn.Conv2d(32, 4, 1)

    def forward(self, x):
        x = self.features(x)
        return self.conv4_2(x), F.softmax(self.conv4_1(x), dim=1)[:, 1]


class RNet(Net):
    """Crops [batch, 3, 24, 24] -> how to move the box [batch, 4], how likely it is of a face [batch]."""

    def __init__(self):
        super().__init__((28, 3, 3), (48, 3, 3), (64, 2, None))
        self.dense4 = nn.Linear(576, 128)
        self.prelu4 = nn.PReLU(128)
        self.dense5_1 = nn.Linear(128, 2)
        self.dense5_2 = nn.Linear(128, 4)

    def forward(self, x):
        x = self.features(x).permute(0, 3, 2, 1).flatten(1)
        x = self.prelu4(self.dense4(x))
        return self.dense5_2(x), F.softmax(self.dense5_1(x), dim=1)[:, 1]


class ONet(Net):
    """Crops [batch, 3, 48, 48] -> how to move the box [batch, 4], how likely it is of a face [batch], where in it eyes,
    nose and mouth are [batch, 10] (five x, five y, in 0 to 1)."""

    def __init__(self):
        super().__init__((32, 3, 3), (64, 3, 3), (64, 3, 2), (128, 2, None))
        self.dense5 = nn.Linear(1152, 256)
        self.prelu5 = nn.PReLU(256)
        self.dense6_1 = nn.Linear(256, 2)
        self.dense6_2 = nn.Linear(256, 4)
        self.dense6_3 = nn.Linear(256, 10)

    def forward(self, x):
        x = self.features(x).permute(0, 3, 2, 1).flatten(1)
        x = self.prelu5(self.dense5(x))
        return self.dense6_2(x), F.softmax(self.dense6_1(x), dim=1)[:, 1], self.dense6_3(x)


def load():
    nets = PNet(), RNet(), ONet()
    for net in nets:
        net.load_state_dict(torch.load(model_files.find(f"{type(net).__name__.lower()}.pt")))
        net.eval()
    return nets


def normalized(pixels):
    return (pixels - 127.5) / 128


def overlap_free(boxes, scores, most, of_smaller=False):
    """The numbers of the boxes [n, 4] that no better one overlaps by more than `most` of their union (or of the
    smaller one), the best first."""
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    rest, kept = np.argsort(-scores), []
    while len(rest):
        best, rest = rest[0], rest[1:]
        kept.append(best)
        low = np.maximum(boxes[best, :2], boxes[rest, :2])
        shared = np.clip(np.minimum(boxes[best, 2:], boxes[rest, 2:]) - low, 0, None).prod(1)
        either = np.minimum(areas[best], areas[rest]) if of_smaller else areas[best] + areas[rest] - shared
        rest = rest[shared <= most * either]
    return kept


def moved(boxes, by):
    """Each corner moved by a part of its box's size."""
    size = boxes[:, 2:] - boxes[:, :2]
    return boxes + by * np.concatenate([size, size], 1)


def squares(boxes):
    """The smallest squares around the boxes' middles that hold them."""
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    half = (boxes[:, 2:] - boxes[:, :2]).max(1, keepdims=True) / 2
    return np.concatenate([middle - half, middle + half], 1)


def crops(photo, boxes, size):
    """[boxes, 3, size, size]; what is outside of the photo is left out of a crop."""
    height, width = photo.shape[2:]
    found = []
    for left, top, right, bottom in np.trunc(boxes).astype(int).tolist():
        left, top = min(max(left, 0), width - 1), min(max(top, 0), height - 1)
        part = photo[:, :, top : max(min(bottom, height), top + 1), left : max(min(right, width), left + 1)]
        found.append(F.interpolate(part, size=(size, size), mode="area"))
    return torch.cat(found)


def detect(nets, photo, smallest=40):
    """Faces in a photo [height, width, 3] of bytes: boxes [n, 4] (left, top, right, bottom), scores [n], points
    [n, 5, 2] (x, y of eyes, nose and mouth)."""
    pnet, rnet, onet = nets
    photo = torch.from_numpy(np.array(photo)).permute(2, 0, 1)[None].float()
    height, width = photo.shape[2:]
    boxes, scores = np.zeros((0, 4)), np.zeros(0)
    scale = 12 / smallest
    while min(height, width) * scale >= 12:
        size = int(height * scale + 1), int(width * scale + 1)
        move, score = pnet(normalized(F.interpolate(photo, size=size, mode="area")))
        at = np.argwhere(score[0].numpy() >= 0.6)
        corner = at[:, ::-1] * 2 / scale
        found = np.concatenate([corner, corner + 12 / scale], 1)
        found_scores = score[0].numpy()[at[:, 0], at[:, 1]]
        kept = overlap_free(found, found_scores, 0.5)
        boxes = np.concatenate([boxes, moved(found, move[0].numpy()[:, at[:, 0], at[:, 1]].T)[kept]])
        scores = np.concatenate([scores, found_scores[kept]])
        scale *= 0.709
    points = np.zeros((0, 10))
    boxes = squares(boxes[overlap_free(boxes, scores, 0.7)])
    for net, size in ((rnet, 24), (onet, 48)):
        if not len(boxes):
            break
        move, score, *rest = (t.numpy() for t in net(normalized(crops(photo, boxes, size))))
        sure = score > 0.7
        boxes, scores, move = boxes[sure], score[sure], move[sure]
        if rest:
            x, y = np.split(rest[0][sure], 2, axis=1)
            side = boxes[:, 2:] - boxes[:, :2]
            points = np.stack([boxes[:, :1] + x * side[:, :1], boxes[:, 1:2] + y * side[:, 1:]], -1)
        boxes = moved(boxes, move)
        kept = overlap_free(boxes, scores, 0.7, of_smaller=bool(rest))
        boxes, scores = boxes[kept], scores[kept]
        points = points[kept] if rest else points
        boxes = boxes if rest else squares(boxes)
    return boxes, scores, points.reshape(-1, 5, 2)


def main():
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    photo = np.asarray(Image.open(sys.argv[1]).convert("RGB"))
    some = {"x": {0: torch.Dim("crops", 1, 4096)}}
    pnet, rnet, onet = load()
    nets = (
        torch.compile(pnet),
        torch.compile(rnet, dynamic_shapes=some),
        torch.compile(onet, dynamic_shapes=some),
    )
    with torch.no_grad():
        detect(nets, photo)
        start = time.perf_counter()
        boxes, scores, points = detect(nets, photo)
    print(f"{len(boxes)} faces in {time.perf_counter() - start:.3f} s")
    for box, score, eyes in zip(
        boxes.round().astype(int).tolist(), scores, points.round().astype(int).tolist()
    ):
        print(f"  {score:.3f} at {box}, eyes at {eyes[0]} and {eyes[1]}")


if __name__ == "__main__":
    try:
        main()
    except OSError as error:  # no such picture, not one, or no model files
        sys.exit(str(error))
