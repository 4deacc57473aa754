"""Executors of many machines: a Dask cluster that runs already, or one that SLURM starts as a profile says."""

from __future__ import annotations

import math
import secrets
import shutil
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from itertools import islice
from operator import length_hint
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from limner import check
from limner.cluster.ledger import Item, Outcome
from limner.cluster.work import Job, Progress, done, limit_threads
from limner.config import Settings, load

#: How long a scheduler may take to answer, s.
PATIENCE = 30
#: How often it is looked whether there are more workers, s.
PAUSE = 2

Count = Annotated[int, Field(ge=1)]


@dataclass(frozen=True)
class Cluster:
    """Does items on the workers of a Dask scheduler; one that dies is replaced by another, as the scheduler decides.

    Args:
        address: of the scheduler, such as tcp://10.0.0.1:8786.
        threads: that each worker computes with.
        memory: that each worker may take, bytes; what works there must keep to that.
    """

    address: str
    threads: int = 1
    memory: float | None = None

    def outcomes(self, items: Iterable[Item], job: Job, *, progress: Progress) -> Iterator[Outcome]:
        """Yield what came of each item.

        Raises:
            InputError: without dask or a scheduler that answers, or for workers that cannot do the work.
        """
        with _connected(self.address, option="--cluster") as client:
            yield from _outcomes(client, items, job=job, threads=self.threads, progress=progress)


class Profile(Settings):
    """What a job of SLURM is to be, and how many there are.

    Args:
        jobs: at a time; those that end, as at their time limit, are replaced while there is work.
        workers: of each job, an item at a time each.
        threads: of each worker.
        memory: of each worker, GB; one that exceeds it is ended, and its item tried elsewhere.
        walltime: of a job, as SLURM writes it.
        queue: partition.
        account: that is charged.
        directives: further lines for `#SBATCH`, such as "--qos=long".
        setup: lines of shell that come before a worker, such as "module load python".
        logs: folder of the jobs' output.
        scratch: folder for what a worker keeps for itself.
        interface: network that workers and scheduler talk over, such as "ib0".
        python: on the nodes; the one that runs this without it.
    """

    jobs: Count = 1
    workers: Count = 1
    threads: Count = 1
    memory: Annotated[float, Field(gt=0)] = 4.0
    walltime: Annotated[str, Field(pattern=r"^(\d+-)?\d+(:\d+){0,2}$")] = "04:00:00"
    queue: str | None = None
    account: str | None = None
    directives: tuple[str, ...] = ()
    setup: tuple[str, ...] = ()
    logs: str | None = None
    scratch: str | None = None
    interface: str | None = None
    python: str | None = None


@dataclass(frozen=True)
class Slurm:
    """Does items in jobs of SLURM.

    Args:
        profile: of the jobs.
    """

    profile: Profile

    @classmethod
    def of(cls, path: Path) -> Slurm:
        """Return what a profile, a TOML file, asks for.

        Raises:
            InputError: for a file that is missing, no TOML, or has wrong settings.
        """
        return cls(load(path, Profile))

    @property
    def memory(self) -> float:
        """What each worker may take, bytes."""
        return self.profile.memory * 1e9

    @property
    def threads(self) -> int:
        """How many threads each worker computes with."""
        return self.profile.threads

    def script(self) -> str:
        """Return the script that is submitted for each job.

        Raises:
            InputError: without dask-jobqueue.
        """
        with self._cluster() as cluster:
            return str(cluster.job_script())

    def outcomes(self, items: Iterable[Item], job: Job, *, progress: Progress) -> Iterator[Outcome]:
        """Yield what came of each item.

        Raises:
            InputError: without dask-jobqueue or `sbatch`, or for workers that cannot do the work.
        """
        if shutil.which("sbatch") is None:
            raise check.no_sbatch()
        profile = self.profile
        needed = math.ceil(length_hint(items, profile.jobs * profile.workers) / profile.workers)
        jobs = min(profile.jobs, needed)
        with self._cluster() as cluster:
            # Between equal bounds nothing is adapted, but jobs that end are replaced.
            cluster.adapt(minimum_jobs=jobs, maximum_jobs=jobs)
            with _connected(cluster.scheduler_address, option="--slurm") as client:
                yield from _outcomes(client, items, job=job, threads=profile.threads, progress=progress)

    def _cluster(self) -> Any:
        """Return a scheduler in this process that can submit jobs, and has submitted none."""
        try:
            from dask_jobqueue.slurm import SLURMCluster
        except ImportError as error:
            raise check.without_distributed("--slurm") from error
        profile = self.profile
        return SLURMCluster(
            cores=profile.workers,
            processes=profile.workers,
            job_cpu=profile.workers * profile.threads,
            memory=f"{math.ceil(profile.workers * profile.memory * 1e9)} B",
            walltime=profile.walltime,
            queue=profile.queue,
            account=profile.account,
            job_extra_directives=list(profile.directives),
            job_script_prologue=list(profile.setup),
            log_directory=profile.logs,
            local_directory=profile.scratch,
            interface=profile.interface,
            python=profile.python,
            job_name="limner",
            # Nobody looks at a dashboard, and its port may be taken by another run on the same machine.
            scheduler_options={"dashboard": False},
        )


@contextmanager
def _connected(address: str, *, option: str) -> Iterator[Any]:
    """Yield a client of a scheduler.

    Raises:
        InputError: without dask, or if nobody answers.
    """
    try:
        from distributed import Client
    except ImportError as error:
        raise check.without_distributed(option) from error
    try:
        client = Client(address, timeout=PATIENCE)
    except (OSError, ValueError) as error:
        raise check.no_scheduler(address, error) from error
    try:
        yield client
    finally:
        client.close()


def _outcomes(client: Any, items: Iterable[Item], *, job: Job, threads: int, progress: Progress) -> Iterator[Outcome]:
    """Yield what came of each item, done by the workers that a scheduler has by then.

    Raises:
        InputError: if the scheduler is lost, or a worker cannot do the work.
    """
    traffic = _Traffic(client, job, threads=threads)
    waiting = iter(items)
    try:
        while True:
            traffic.send(waiting)
            if traffic.ended:
                return
            if not traffic.sent:
                progress.step(traffic.ready[0].name, "waiting for a worker")
                time.sleep(PAUSE)
            else:
                yield from traffic.heard()
    except (OSError, CancelledError) as error:
        raise check.scheduler_lost(client.scheduler.address) from error


class _Traffic:
    """Items between this process and the workers of a scheduler.

    Whatever is on a worker that dies is held to have killed it. So a worker has one item at a time, and what is held to
    have killed too many, perhaps in bad company, is tried once more in the end, alone.
    """

    def __init__(self, client: Any, job: Job, *, threads: int) -> None:
        self.client, self.job, self.threads = client, job, threads
        self.workers: dict[str, int] = {}
        self.ready: deque[Item] = deque()
        self.sent: dict[Any, Item] = {}
        self.suspects: deque[Item] = deque()
        self.alone: Item | None = None

    @property
    def ended(self) -> bool:
        """Whether nothing is left to do."""
        return not self.sent and not self.ready

    def send(self, waiting: Iterator[Item]) -> None:
        """Send items to the workers that have none."""
        workers = self.client.nthreads()
        if workers.keys() - self.workers.keys():
            _agree(self.client, workers)
        self.workers = workers
        # One is at hand even if there is no worker yet, so that it is known whether there is something left to do.
        free = max(1, len(workers)) - len(self.sent) - len(self.ready)
        self.ready.extend(islice(waiting, max(0, free)))
        if self.ended and self.suspects:
            self.alone = self.suspects.popleft()
            self.ready.append(self.alone)
        while self.ready and len(self.sent) < len(workers):
            item = self.ready.popleft()
            key = f"{item.name}-{secrets.token_hex(4)}"
            future = self.client.submit(_done, item, self.job, threads=self.threads, key=key, pure=False)
            self.sent[future] = item

    def heard(self) -> Iterator[Outcome]:
        """Wait a while for items to end, and yield what came of those that did."""
        for future in _ended(list(self.sent)):
            item = self.sent.pop(future)
            outcome = _outcome(future, item, job=self.job, last=item is self.alone)
            if outcome:
                yield outcome
            else:
                self.suspects.append(item)


def _ended(futures: Sequence[Any]) -> set[Any]:
    """Return those of some futures that have ended; after a while, if it is none."""
    from distributed import wait

    try:
        return set(wait(futures, timeout=PAUSE, return_when="FIRST_COMPLETED").done)
    except TimeoutError:
        return set()


def _done(item: Item, job: Job, *, threads: int) -> Outcome:
    """Do an item on a worker."""
    limit_threads(threads)
    return done(item, job, step=lambda _: None)


def _outcome(future: Any, item: Item, *, job: Job, last: bool) -> Outcome | None:
    """Return what came of an item that was sent away; None if it killed its workers, unless this was the last attempt.

    Raises:
        InputError: if its worker cannot do the work.
    """
    from distributed import KilledWorker

    try:
        found: Outcome | None = future.result()
    except (check.InputError, CancelledError):
        raise
    except KilledWorker as error:
        # Its last worker may have died after it had marked it, with what was to be told of it.
        found = job.ledger.remembered(item)
        if last and not found:
            found = Outcome(item.name, error=check.workers_died(error.last_worker.address))
    except Exception as error:  # noqa: BLE001 whatever happens to an item elsewhere must not stop the others
        found = Outcome(item.name, error=f"{type(error).__name__}: {error}")
    return found


def _agree(client: Any, threads: Mapping[str, int]) -> None:
    """Refuse workers of another version, or that would do several items at once.

    Args:
        client: of their scheduler.
        threads: of each worker, by its address.

    Raises:
        InputError: naming one.
    """
    check.workers_threads(threads)
    # A function of the standard library, which is known on a worker without limner too. One may die before it answers.
    found = client.run(version, "limner", on_error="return")
    answers = {worker: one for worker, one in found.items() if isinstance(one, str | PackageNotFoundError)}
    check.workers_version(answers, expected=version("limner"))
