"""Static images for direct coding: CIFAR-100 as published in binary, ImageNet and others as folders of image files.

Direct coding feeds the same image, as input currents, in every time step; the first layer turns it into spikes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import refuse
from .arrays import MAX_BYTES
from .spikes import SpikeData

#: Mean and standard deviation of the channels red, green, blue of the training images, pixels from 0 to 1.
CIFAR100_MEAN, CIFAR100_STD = (0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

#: An image of more pixels than this is not decoded: a small file can declare any size.
MAX_PIXELS = 10**8

#: A CIFAR-100 record: coarse class, fine class, then 32 x 32 pixels of red, of green and of blue.
CIFAR100_RECORD = 2 + 3 * 32 * 32

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")


@dataclass(frozen=True, eq=False)
class Images:
    """Many images of one shape, read one at a time. labels: (count,) int64. read(i): (channels, height, width)
    float32, normalised."""

    count: int
    labels: np.ndarray
    name: str
    read: Callable[[int], np.ndarray]

    def chosen(self, indices: Sequence[int]) -> Images:
        """These images alone, in this order."""
        return Images(len(indices), self.labels[np.asarray(indices, dtype=np.int64)], self.name,
                      lambda i: self.read(int(indices[i])))


def direct_coding(images: Images, steps: int) -> SpikeData:
    """Input currents (images, steps, channels, height, width) float32: each image in every step.

    The steps share one image in memory. Raises `Refused` with the problem of the first image that can't be read.
    """
    if steps < 1:
        raise refuse(f"{steps} steps", fix="Ask for at least one step")
    if not images.count:
        raise refuse("there are no images", file=images.name, fix="Give at least one")
    first = images.read(0)
    if images.count * first.nbytes > MAX_BYTES:
        raise refuse(f"{images.count} images take {images.count * first.nbytes / 2**30:.1f} GiB", file=images.name,
                     fix=f"Limit the images: at most {MAX_BYTES / 2**30:g} GiB are made")
    currents = np.empty((images.count, 1, *first.shape), dtype=np.float32)
    currents[0, 0] = first
    for i in range(1, images.count):
        currents[i, 0] = images.read(i)
    return SpikeData(np.broadcast_to(currents, (images.count, steps, *first.shape)), images.labels,
                     f"{images.name}, the same in each of {steps} steps")


def cifar100(folder: str | Path, train: bool) -> Images:
    """CIFAR-100's train.bin or test.bin (the "binary version"), fine labels; images (3, 32, 32).

    Source: cs.toronto.edu/~kriz/cifar.html. Raises `Refused`; the python version is not read, as unpickling a file
    runs what it says.
    """
    name = "train.bin" if train else "test.bin"
    path = next((p for p in (Path(folder) / name, Path(folder) / "cifar-100-binary" / name) if p.is_file()), None)
    if path is None:
        raise refuse(f"it holds no {name}", file=str(folder),
                     fix="Unpack CIFAR-100's binary version, cifar-100-binary.tar.gz, and point to its folder")
    size = path.stat().st_size
    if size % CIFAR100_RECORD or not size:
        raise refuse(f"{size} bytes are no whole number of images of {CIFAR100_RECORD}", file=str(path),
                     fix="The file is cut off, or another version: fetch cifar-100-binary.tar.gz again")
    records = np.memmap(path, dtype=np.uint8, mode="r", shape=(size // CIFAR100_RECORD, CIFAR100_RECORD))
    labels = records[:, 1].astype(np.int64)
    if labels.max() > 99:
        raise refuse(f"image {int(labels.argmax())} has class {labels.max()}, expected 0 to 99", file=str(path),
                     fix="This is no CIFAR-100: fetch cifar-100-binary.tar.gz again")

    def read(i: int) -> np.ndarray:
        return _normalised(records[i, 2:].reshape(3, 32, 32), CIFAR100_MEAN, CIFAR100_STD)

    return Images(len(records), labels, f"CIFAR-100 {name}", read)


def image_folder(folder: str | Path, size: int = 224, resize: int = 256) -> Images:
    """Images of class/name.png, .jpg, .jpeg or .webp; classes are numbered in the order of their names.

    Read as RGB; the shorter side becomes `resize` pixels (bilinear, antialiased), the centre of size x size is kept,
    channels are normalised with ImageNet's mean and deviation: (3, size, size). The order is one image of each class
    in turn. Needs Pillow. Raises `Refused`.
    """
    root = Path(folder)
    if not root.is_dir():
        raise refuse("there is no such folder", file=str(root), fix="Check the path")
    if size > resize:
        raise refuse(f"no {size} pixels can be cut out of {resize}", fix="Give a size of at most resize")
    classes = sorted(d for d in root.iterdir() if d.is_dir())
    files = [sorted(f for f in d.iterdir() if f.suffix.lower() in SUFFIXES) for d in classes]
    empty = [d.name for d, found in zip(classes, files, strict=True) if not found]
    if empty or not classes:
        raise refuse(f"it holds no images of {', '.join(empty[:10]) or 'any class'}", file=str(root),
                     fix=f"Give one subfolder per class, of {', '.join(SUFFIXES)} files")
    chosen = [(found[i], label) for i in range(max(map(len, files)))
              for label, found in enumerate(files) if i < len(found)]

    def read(i: int) -> np.ndarray:
        pixels = _centre(chosen[i][0], size, resize).transpose(2, 0, 1)
        return _normalised(pixels, IMAGENET_MEAN, IMAGENET_STD)

    labels = np.array([label for _, label in chosen], dtype=np.int64)
    return Images(len(chosen), labels, root.name, read)


def _normalised(pixels: np.ndarray, mean: Sequence[float], std: Sequence[float]) -> np.ndarray:
    centre, spread = (np.array(values, dtype=np.float32)[:, None, None] for values in (mean, std))
    result: np.ndarray = (pixels.astype(np.float32) / np.float32(255) - centre) / spread
    return result


def _centre(path: Path, size: int, resize: int) -> np.ndarray:
    """The middle of an image, (size, size, 3) uint8, after its shorter side was made `resize` pixels."""
    try:
        from PIL import Image
    except ImportError as error:
        raise refuse(f"Pillow can not be imported ({error})", fix="Install it: pip install 'neurocompress[images]'"
                     ) from error
    file = str(path)
    try:
        with Image.open(path, formats=("PNG", "JPEG", "WEBP")) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise refuse(f"it is {width} x {height} pixels, at most {MAX_PIXELS} are decoded", file=file,
                             fix="Scale it down")
            short = min(width, height)
            scaled = image.convert("RGB").resize((resize * width // short, resize * height // short),
                                                 Image.Resampling.BILINEAR)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:  # Pillow's, of broken files
        raise refuse(f"it can not be read as an image ({error})", file=file, fix="Fetch it again") from error
    left, top = round((scaled.width - size) / 2), round((scaled.height - size) / 2)
    return np.asarray(scaled)[top : top + size, left : left + size]
