"""What does it say? Text found and read in a picture by two nets from ONNX files, compiled.

    make models
    python examples/read_text.py picture.png

The nets are PaddleOCR's (v4, English and Chinese) as RapidOCR packs them: one marks text, one reads a line from left to
right. Lines must be upright. One compile reads lines of every length; each size of picture has one of its own, kept
in the disk cache.
"""

import sys
import time

import model_files
import numpy as np
from PIL import Image
from scipy import ndimage

import vitrify as torch

HEIGHT, LONGEST = 48, 3200  # a line's height and its largest width, in pixels


def prepared(picture):
    """Bytes [h, w, 3] -> [1, 3, h, w] in [-1, 1]."""
    return torch.from_numpy(np.array(picture, np.float32)).permute(2, 0, 1)[None] / 127.5 - 1


class Reader:
    def __init__(self):
        find = torch.compile(torch.onnx.load(model_files.find("ch_PP-OCRv4_det_infer.onnx")))
        net = torch.onnx.load(model_files.find("ch_PP-OCRv4_rec_infer.onnx"))
        self.characters = ["", *net.metadata["character"].splitlines(), " "]  # number 0 is between characters
        self.find = find
        self.read = torch.compile(net, dynamic_shapes={"x": {3: torch.Dim("width", HEIGHT, LONGEST)}})

    def boxes(self, picture):
        """Where text is: (left, top, right, bottom), from top to bottom."""
        width, height = (max(32, round(side / 32) * 32) for side in picture.size)
        with torch.no_grad():
            chance = self.find(prepared(picture.resize((width, height))))[0, 0].numpy()
        labels, _ = ndimage.label(ndimage.binary_dilation(chance > 0.3))
        found = []
        for number, (rows, columns) in enumerate(ndimage.find_objects(labels), 1):
            inside = chance[rows, columns][labels[rows, columns] == number]
            high, wide = rows.stop - rows.start, columns.stop - columns.start
            if min(high, wide) < 3 or inside.mean() < 0.5:
                continue
            more = 1.6 * high * wide / (2 * (high + wide))  # the net marks a line's inner part
            box = np.array([columns.start - more, rows.start - more, columns.stop + more, rows.stop + more])
            scaled = box * np.tile([picture.width / width, picture.height / height], 2)
            found.append(
                tuple(np.clip(scaled, 0, [*picture.size, *picture.size]).round().astype(int).tolist())
            )
        return sorted(found, key=lambda box: (box[1], box[0]))

    def line(self, picture):
        """The text of a picture of one line, and how sure the net is of its characters."""
        width = min(max(HEIGHT, round(picture.width * HEIGHT / picture.height)), LONGEST)
        x = prepared(picture.resize((width, HEIGHT)))
        with torch.no_grad():
            chances, best = self.read(x)[0].max(dim=1)
        best = best.numpy()
        new = (best != 0) & (best != np.concatenate([[0], best[:-1]]))
        text = "".join(self.characters[number] for number in best[new])
        return text.strip(), float(chances.numpy()[new].mean()) if new.any() else 0.0


def main():
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    picture = Image.open(sys.argv[1]).convert("RGB")
    reader = Reader()
    start = time.perf_counter()
    for box in reader.boxes(picture):
        text, sure = reader.line(picture.crop(box))
        print(f"{sure:.2f}  {text}")
    print(f"read in {time.perf_counter() - start:.2f} s, compilation included")


if __name__ == "__main__":
    try:
        main()
    except OSError as error:  # no such picture, not one, or no model files
        sys.exit(str(error))
