"""Sound files of every format, damage done to them, and a judge of what a command does with them."""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import resource
import shutil
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK
import tensorstore
from PIL import Image

import dicoms
from limner.files import open_volume, save_volume, stored_volume
from limner.space import Grid, Volume

#: Seconds of the processor after which a command counts as hanging, and how many times as long it may take on the clock
#: of a busy machine.
PATIENCE, BUSY = 20, 3
#: What may be left beside a command's output.
WRITTEN = ("out.nii.gz",)


# --- sound files


def furnish(folder: Path, volume: Volume) -> dict[str, Path]:
    """Write a volume of whole numbers in every format that is read, and return by kind what a command is given."""
    folder.mkdir(parents=True)
    volume = Volume(np.rint(volume.data).astype(np.int16), volume.grid, "image")
    flat = volume.data[..., volume.data.shape[2] // 2].astype(np.uint8)
    kinds: dict[str, Path] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for ending in ("nii", "nii.gz", "mgh", "mgz", "npy", "npz", "nrrd", "mha", "tif", "h5", "zarr", "ome.zarr"):
            kinds[ending] = folder / ending / f"scan.{ending}"
            kinds[ending].parent.mkdir()
            save_volume(volume, kinds[ending], as_stored=True)
    kinds["n5"] = folder / "n5/scan.n5"
    metadata = {"dimensions": volume.data.shape[::-1], "blockSize": (8, 8, 8), "compression": {"type": "gzip"}}
    spec = {"driver": "n5", "kvstore": f"file://{kinds['n5']}/", "metadata": {**metadata, "dataType": "int16"}}
    tensorstore.open(spec, create=True).result().T[...].write(volume.data).result()
    image = SimpleITK.ReadImage(kinds["nrrd"])
    for ending in ("nhdr", "mhd"):
        kinds[ending] = folder / ending / f"scan.{ending}"
        kinds[ending].parent.mkdir()
        SimpleITK.WriteImage(image, kinds[ending])
    for ending in ("png", "jpg"):
        kinds[ending] = folder / ending / f"scan.{ending}"
        kinds[ending].parent.mkdir()
        Image.fromarray(flat.T).save(kinds[ending])
    upright = Volume(volume.data, Grid(volume.data.shape, np.diag([1, 1.5, 2, 1.0])), "image")
    dicoms.written(folder / "dicom/series", upright)
    return kinds | {"dicom": folder / "dicom/series"}


# --- damage


def flipped(content: bytes, rng: np.random.Generator) -> bytes:
    """Some bits among the first bytes, where headers are."""
    return _changed(content, rng, among=min(len(content), 400), count=int(rng.integers(1, 9)))


def scattered(content: bytes, rng: np.random.Generator) -> bytes:
    """Some bits anywhere."""
    return _changed(content, rng, among=len(content), count=int(rng.integers(1, 40)))


def _changed(content: bytes, rng: np.random.Generator, *, among: int, count: int) -> bytes:
    changed = bytearray(content)
    for place in rng.integers(0, among, count).tolist():
        changed[place] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def cut(content: bytes, rng: np.random.Generator) -> bytes:
    """The end is missing."""
    return content[: int(rng.integers(1, len(content)))]


def holed(content: bytes, rng: np.random.Generator) -> bytes:
    """Some bytes are missing."""
    start, length = int(rng.integers(len(content))), int(rng.integers(1, 200))
    return content[:start] + content[start + length :]


def zeroed(content: bytes, rng: np.random.Generator) -> bytes:
    """A block of zeros, as a disk leaves it."""
    start, length = int(rng.integers(len(content))), int(rng.integers(1, 600))
    return content[:start] + bytes(min(length, len(content) - start)) + content[start + length :]


def renumbered(content: bytes, rng: np.random.Generator) -> bytes:
    """A number of a header is another: a digit of a text, or two bytes of a binary one."""
    digits = [place for place, byte in enumerate(content[:1000]) if 48 <= byte < 58]
    changed = bytearray(content)
    if len(digits) > 20:
        place = digits[int(rng.integers(len(digits)))]
        changed[place : place + 1] = str(rng.choice([0, 9, 99999, -1])).encode()
    else:
        place = int(rng.integers(min(len(content) - 2, 350)))
        changed[place : place + 2] = int(rng.integers(2**16)).to_bytes(2, "little")
    return bytes(changed)


DAMAGES: tuple[Callable[[bytes, np.random.Generator], bytes], ...] = (
    flipped,
    scattered,
    cut,
    holed,
    zeroed,
    renumbered,
)


def damage(kind: str, sound: Path, *, seed: int, folder: Path) -> tuple[Path, str]:
    """Copy what belongs to a sound file, and damage it; return what a command is given, and the name of the damage."""
    rng = np.random.default_rng(seed)
    shutil.copytree(sound if kind == "dicom" else sound.parent, folder / "input")
    files = sorted(path for path in (folder / "input").rglob("*") if path.is_file())
    # Of two files, the header comes second: it is damaged twice as often.
    victim = files[int(rng.integers(len(files)))]
    if len(files) == 2 and rng.random() < 0.33:
        victim = files[1] if kind == "zarr" else folder / "input" / sound.name
    harm = DAMAGES[seed % len(DAMAGES)]
    victim.write_bytes(harm(victim.read_bytes(), rng))
    return folder / "input" / ("" if kind == "dicom" else sound.name), harm.__name__


# --- the judge


@dataclass(frozen=True)
class Verdict:
    """What a command did.

    Args:
        code: it left with; None if it had to be stopped, negative if it crashed.
        words: on stderr.
        seconds: of the processor, or on the clock if it had to be stopped.
        megabytes: of memory, at the peak.
        faults: what it should not have done.
    """

    code: int | None
    words: str
    seconds: float
    megabytes: float
    faults: tuple[str, ...]


def judged(command: str, path: Path, *, folder: Path, method: str = "forkserver") -> Verdict:
    """Run `limner convert` or `limner check` on a file in a process of its own, and judge what it does.

    By default that is forked from one that has loaded what takes long, and done nothing else.
    """
    before = {file for file in folder.rglob("*") if file.is_file()}
    target = folder / WRITTEN[0]
    arguments = ["limner", command, str(path), *([str(target)] if command == "convert" else [])]
    context = multiprocessing.get_context(method)
    if method == "forkserver":
        context.set_forkserver_preload(["damaged", "limner.inference.needs", "limner.files.inspection"])
    answers, answer = context.Pipe(duplex=False)
    child = context.Process(target=_run, args=(arguments, answer))
    began = time.perf_counter()
    child.start()
    ends = began + BUSY * PATIENCE
    words, megabytes, seconds = answers.recv() if _answered(child, answers, ends=ends) else ("", 0.0, 0.0)
    child.join(max(0.1, ends - time.perf_counter()))
    code = child.exitcode
    if code is None:
        child.kill()
        child.join()
    left = {file for file in folder.rglob("*") if file.is_file()} - before
    faults = _faults(code, words, left=left, target=target if command == "convert" else None)
    if seconds > PATIENCE:
        faults.append(f"took over {PATIENCE} s")
    return Verdict(code, words, seconds or time.perf_counter() - began, megabytes, tuple(faults))


def _answered(child: multiprocessing.process.BaseProcess, answers: object, *, ends: float) -> bool:
    """Wait until a process says something, dies, or has been waited for long enough."""
    while time.perf_counter() < ends:
        if answers.poll(0.02):  # type: ignore[attr-defined]
            return True
        if not child.is_alive():
            return bool(answers.poll(0))  # type: ignore[attr-defined]
    return False


def _run(arguments: list[str], answer: object) -> None:
    """Run the command line, send what it says on stderr and its peak memory, and leave with its code."""
    import traceback

    from limner.cli import main

    sys.argv = arguments
    heard, code = io.StringIO(), 0
    with contextlib.redirect_stderr(heard), contextlib.redirect_stdout(io.StringIO()):
        try:
            main()
        except SystemExit as left:
            code = int(left.code or 0)
        except BaseException:  # noqa: BLE001 what would have been a traceback is what is looked for
            traceback.print_exc()
            code = 1
    used = resource.getrusage(resource.RUSAGE_SELF)
    answer.send((heard.getvalue(), used.ru_maxrss / 1000, used.ru_utime + used.ru_stime))  # type: ignore[attr-defined]
    sys.exit(code)


def _faults(code: int | None, words: str, *, left: set[Path], target: Path | None) -> list[str]:
    """Return what a command should not have done."""
    if code is None:
        return [f"took over {PATIENCE} s"]
    faults = ["traceback"] * ("Traceback" in words)
    if code not in (0, 2):
        return [*faults, f"exit code {code}"]
    wanted = {target} if code == 0 and target else set()
    if left != wanted:
        faults.append(f"left {sorted(path.name for path in left ^ wanted)}")
    if code == 2 and target and "limner: " not in words:
        faults.append("refused without a word")
    if wanted and not faults:
        faults += _unreadable(wanted.pop())
    return faults


def _unreadable(path: Path) -> list[str]:
    """Return why a file that was written is not whole, if it is not."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        volume = stored_volume(path)
    return [] if volume.data.size else ["wrote no voxels"]


def cropped(path: Path) -> Volume:
    """A piece of a real scan, small enough to be damaged three hundred times."""
    scan = open_volume(path)
    middle = tuple(
        slice(size // 2 - 12, size // 2 + half) for size, half in zip(scan.data.shape, (12, 10, 8), strict=True)
    )
    return Volume(scan.data[middle], Grid(scan.data[middle].shape, scan.grid.affine), "image")
