"""Word what keeps many items from being worked through: ledgers of something else, workers and schedulers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from limner.check.errors import InputError

#: Digits of a hash that are shown.
DIGITS = 12


def same_facts(folder: Path, found: Mapping[str, Any], *, given: Mapping[str, Any]) -> None:
    """Refuse a folder whose results were made otherwise than asked for now.

    Args:
        folder: of the results.
        found: what they were made with.
        given: what was asked for now.

    Raises:
        InputError: with everything that differs.
    """
    before, now = _flat(found), _flat(given)
    differing = [name for name in dict.fromkeys([*before, *now]) if before.get(name) != now.get(name)]
    if differing:
        listed = ", ".join(f"{name} {_short(before.get(name))}, now {_short(now.get(name))}" for name in differing)
        raise InputError(
            f"'{folder}' holds results of another run ({listed}); expected the same method, model, prior and options: "
            "choose another -o, or do all of it again with --redo"
        )


def worker_agrees(found: Mapping[str, Any], *, given: Mapping[str, Any]) -> None:
    """Refuse a worker that would work otherwise than the process that sends it work.

    Args:
        found: what the worker would work with.
        given: what was asked for.

    Raises:
        InputError: with the first thing that differs.
    """
    here, there = _flat(given), _flat(found)
    for name in dict.fromkeys([*here, *there]):
        if here.get(name) != there.get(name):
            raise InputError(
                f"a worker has {name} {_short(there.get(name))} but {_short(here.get(name))} was asked for; expected "
                "the same on all machines: install the same version, and name priors and models by shared paths"
            )


def another_item(name: str, found: Sequence[str], *, given: Sequence[str], folder: Path) -> InputError:
    """Word results that would be replaced by those of something else of the same name.

    Args:
        name: of both.
        found: the files that the results are of.
        given: the files given now.
        folder: of the results.
    """
    was, now = (", ".join(f"'{path}'" for path in paths) for paths in (found, given))
    return InputError(
        f"'{name}' in '{folder}' is of {was} but {now} would have the same name; expected names of their own: "
        "choose another -o, or do all of it again with --redo"
    )


def one_executor(options: Sequence[str]) -> None:
    """Refuse work that is to be done in several places.

    Raises:
        InputError: naming the options.
    """
    if len(options) > 1:
        raise InputError(f"{' and '.join(options)} were given; expected one of them: leave the others out")


def settled_by_profile(options: Sequence[str]) -> None:
    """Refuse options that a profile of jobs settles.

    Raises:
        InputError: naming the options.
    """
    if options:
        raise InputError(
            f"{' and '.join(options)} with --slurm; expected settings of its profile instead: write "
            f"{' and '.join(option.removeprefix('--').removeprefix('max-') for option in options)} there"
        )


def worker_died(code: object, attempts: int) -> str:
    """Word an item whose worker died each time: killed, as by a system that runs out of memory, or crashed."""
    how = f"by signal {-code}" if isinstance(code, int) and code < 0 else f"with code {code}"
    return (
        f"its worker ended {how} in each of {attempts} attempts, perhaps for lack of memory: try it alone, with fewer "
        "--workers"
    )


def worker_greedy(limit: float) -> str:
    """Word an item whose worker took more memory than it may, bytes, each time."""
    return f"its worker took more than {limit / 1e9:.3g} GB and was ended: raise --max-memory"


def workers_fit(count: int, each: float, *, available: float) -> None:
    """Refuse workers that the machine has no memory for.

    Args:
        count: of the workers.
        each: bytes of one.
        available: bytes of the machine.

    Raises:
        InputError: with the number that would fit.
    """
    if count * each > available:
        raise InputError(
            f"{count} worker{'s' * (count > 1)} of {each / 1e9:.3g} GB each take {count * each / 1e9:.3g} GB but the "
            f"machine has {available / 1e9:.3g}; expected less: lower --workers to {max(1, int(available / each))}, or "
            "say with --max-memory how little each may take"
        )


def scan_fits(needed: float, limit: float) -> None:
    """Refuse a scan that takes more memory than there is for it, bytes both.

    Raises:
        InputError: with both.
    """
    if needed > limit:
        raise InputError(
            f"segmenting it takes about {needed / 1e9:.3g} GB but {limit / 1e9:.3g} GB are allowed; expected less: "
            "raise --max-memory, or resample the scan"
        )


def workers_died(address: str) -> str:
    """Word an item whose workers on a cluster died, one after another."""
    return (
        f"the workers that it was sent to ended one after another, the last at {address}, perhaps for lack of memory: "
        "give workers more, and look into their logs"
    )


def disk_full() -> str:
    """Word an item that was not begun, since its results could not have been written."""
    return "was not begun, because the disk is full: free some space and run the same command again"


def without_distributed(option: str) -> InputError:
    """Word a cluster that was asked for without the library that talks to it."""
    return InputError(
        f"{option} needs dask, which is not installed; expected it here and on all workers: run "
        "`pip install 'limner[cluster]'`, or use --workers on this machine"
    )


def no_scheduler(address: str, error: object) -> InputError:
    """Word a Dask scheduler that does not answer."""
    words = " ".join(str(error).split()) or type(error).__name__
    return InputError(
        f"no Dask scheduler answers at '{address}' ({words}); expected one that runs: start `dask scheduler` and "
        "`dask worker ADDRESS --nthreads 1`, and give its address, such as tcp://10.0.0.1:8786"
    )


def scheduler_lost(address: str) -> InputError:
    """Word a Dask scheduler that went away before all was done."""
    return InputError(
        f"the Dask scheduler at '{address}' was lost; what was finished is kept: start it again, and run the same "
        "command"
    )


def workers_version(versions: Mapping[str, object], *, expected: str) -> None:
    """Refuse workers with another version of limner, or without.

    Args:
        versions: of each worker, by its address; anything but text where there is no limner.
        expected: the version here.

    Raises:
        InputError: naming one of them.
    """
    for address, found in versions.items():
        if found != expected:
            has = f"runs limner {found}" if isinstance(found, str) else "has no limner"
            raise InputError(
                f"worker '{address}' {has} but limner {expected} sends it work; expected the same version everywhere: "
                "install it there"
            )


def workers_threads(threads: Mapping[str, int]) -> None:
    """Refuse workers that would do several items in one process at once.

    Raises:
        InputError: naming one of them.
    """
    for address, count in threads.items():
        if count != 1:
            raise InputError(
                f"worker '{address}' takes {count} items at once; expected one each, so that it has its memory for "
                "itself: start it with --nthreads 1, and more of them with --nworkers"
            )


def no_sbatch() -> InputError:
    """Word a machine that cannot submit jobs."""
    return InputError(
        "--slurm submits jobs but this machine has no `sbatch`; expected a node of the cluster that has: run the same "
        "command there, or use --workers here"
    )


def _flat(facts: Mapping[str, Any], under: str = "") -> dict[str, Any]:
    """Return nested facts by their dotted names."""
    flat: dict[str, Any] = {}
    for name, value in facts.items():
        key = f"{under}.{name}" if under else str(name)
        flat |= _flat(value, key) if isinstance(value, Mapping) else {key: value}
    return flat


def _short(value: object) -> str:
    """Return a value in a few words; of a hash, its first digits."""
    if value is None or value == "":
        return "none"
    words = str(value)
    return words[:DIGITS] if len(words) == 64 else words
