"""Executors of many machines: a Dask cluster that runs already, or one that SLURM starts as a profile says."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from limner import check
from limner.cluster.ledger import Item, Outcome
from limner.cluster.work import Job, Progress, done, limit_threads
from limner.config import Settings, load

#: How long a scheduler may take to answer, s.
PATIENCE = 20
#: Items that are on their way for each worker: the next is there when one is done, and few are lost with a scheduler.
AHEAD = 2

Count = Annotated[int, Field(ge=1)]


@dataclass(frozen=True)
class Cluster:
    """Does items on the workers of a Dask scheduler; one that dies is replaced by another, as the scheduler decides.

    Args:
        address: of the scheduler, such as tcp://10.0.0.1:8786.
        threads: that each worker computes with.
    """

    address: str
    threads: int = 1

    def outcomes(self, items: Iterable[Item], job: Job, *, progress: Progress) -> Iterator[Outcome]:  # noqa: ARG002
        """Yield what came of each item.

        Raises:
            InputError: without dask or a scheduler that answers, or for workers that cannot do the work.
        """
        with _connected(self.address, option="--cluster") as client:
            yield from _outcomes(client, items, job=job, threads=self.threads)


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

    def script(self) -> str:
        """Return the script that is submitted for each job.

        Raises:
            InputError: without dask-jobqueue.
        """
        with self._cluster() as cluster:
            return str(cluster.job_script())

    def outcomes(self, items: Iterable[Item], job: Job, *, progress: Progress) -> Iterator[Outcome]:  # noqa: ARG002
        """Yield what came of each item.

        Raises:
            InputError: without dask-jobqueue or `sbatch`, or for workers that cannot do the work.
        """
        if shutil.which("sbatch") is None:
            raise check.no_sbatch()
        profile = self.profile
        with self._cluster() as cluster:
            # Between equal bounds nothing is adapted, but jobs that end are replaced.
            cluster.adapt(minimum_jobs=profile.jobs, maximum_jobs=profile.jobs)
            with _connected(cluster.scheduler_address, option="--slurm") as client:
                places = profile.jobs * profile.workers
                yield from _outcomes(client, items, job=job, threads=profile.threads, places=places)

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


def _outcomes(client: Any, items: Iterable[Item], *, job: Job, threads: int, places: int = 0) -> Iterator[Outcome]:
    """Yield what came of each item, done by the workers that a scheduler has and will have.

    Args:
        client: of the scheduler.
        items: to do.
        job: how they are done.
        threads: of each worker.
        places: workers that are expected, if they are not there yet.
    """
    from distributed import as_completed

    _agree(client)
    waiting, futures = iter(items), as_completed()
    names: dict[str, str] = {}
    while True:
        window = AHEAD * max(places, len(client.scheduler_info(n_workers=-1)["workers"]), 1)
        while len(names) < window and (item := next(waiting, None)):
            future = client.submit(_done, item, job, threads=threads, key=f"{item.name}-{id(item)}", pure=False)
            futures.add(future)
            names[future.key] = item.name
        if not names:
            return
        future = next(futures)
        yield _outcome(future, names.pop(future.key), address=client.scheduler.address)


def _done(item: Item, job: Job, *, threads: int) -> Outcome:
    """Do an item on a worker."""
    limit_threads(threads)
    return done(item, job, step=lambda _: None)


def _outcome(future: Any, name: str, *, address: str) -> Outcome:
    """Return what came of an item that was sent away.

    Raises:
        InputError: if the worker or the scheduler cannot be used.
    """
    from distributed import KilledWorker

    if future.cancelled() or future.status == "lost":
        raise check.scheduler_lost(address)
    error = future.exception()
    if error is None:
        found: Outcome = future.result()
        return found
    if isinstance(error, check.InputError):
        raise error
    if isinstance(error, KilledWorker):
        return Outcome(name, error=check.workers_died(error.last_worker.address))
    return Outcome(name, error=f"{type(error).__name__}: {error}")


def _agree(client: Any) -> None:
    """Refuse workers of another version, or that would do several items at once.

    Raises:
        InputError: naming one.
    """
    # A function of the standard library, which is known on a worker without limner too.
    found = client.run(version, "limner", on_error="return")
    versions = {worker: None if isinstance(one, Exception) else one for worker, one in found.items()}
    check.workers_version(versions, expected=version("limner"))
    check.workers_threads(client.nthreads())
