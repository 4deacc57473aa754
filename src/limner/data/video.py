"""Moving digits: films whose objects are to be told apart and followed, time being the first axis of a volume."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from limner.data.synthetic import INK, Digits
from limner.space import Array

#: Sd of the noise of a film; brightness of its objects.
NOISE, BRIGHTNESS = 0.03, (0.4, 1.0)


@dataclass(frozen=True)
class Motion:
    """What a film shows.

    Args:
        size: edge of a frame, pixels.
        objects: digits in it, all the time.
        speed: of the fastest, pixels a frame along each axis.
    """

    size: int = 96
    objects: int = 3
    speed: float = 1.5


def film(digits: Digits, motion: Motion, *, frames: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """Return an image (frames, size, size) float32, about 0 to 1, and the id of each voxel's digit, uint16; 0 is none.

    Digits move along straight lines and turn back at the edge. Those of a higher id pass over the others, and their
    dim rims, which are no object's, hide them too.

    Args:
        digits: of which some are shown.
        motion: of these.
        frames: how many.
        rng: draws.
    """
    image = rng.normal(0, NOISE, (frames, motion.size, motion.size)).astype(np.float32)
    ids = np.zeros(image.shape, np.uint16)
    for number, index in enumerate(rng.choice(len(digits.images), motion.objects, replace=False), start=1):
        digit = digits.images[index]
        bright = rng.uniform(*BRIGHTNESS)
        for frame, place in enumerate(_way(motion, frames=frames, edge=len(digit), rng=rng)):
            shown, inside = digit > 0, digit > INK
            image[frame][place][shown] = bright * digit[shown] + rng.normal(0, NOISE, int(shown.sum()))
            ids[frame][place][shown] = 0
            ids[frame][place][inside] = number
    return image, ids


def _way(motion: Motion, *, frames: int, edge: int, rng: np.random.Generator) -> Iterator[tuple[slice, slice]]:
    """Yield where a digit is in each frame."""
    room = motion.size - edge
    begin, step = rng.uniform(0, room, 2), rng.uniform(-motion.speed, motion.speed, 2)
    for frame in range(frames):
        far = (begin + frame * step) % (2 * room)
        y, x = np.minimum(far, 2 * room - far).round().astype(int).tolist()
        yield slice(y, y + edge), slice(x, x + edge)
