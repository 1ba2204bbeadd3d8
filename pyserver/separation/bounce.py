"""Runs bounce jobs: from disk through the engine to disk, window by window, to be resumed at any of them."""

from collections.abc import AsyncIterator, Callable

from pyserver.models.card import ModelCard
from pyserver.separation.jobs import Job, JobSpec, JobStore
from pyserver.separation.scheduler import Scheduler


class BounceRunner:
    """The one door to bounce jobs for the service. Every method runs on the event loop; disk work is done in threads."""

    def __init__(self, store: JobStore, scheduler: Scheduler, find_card: Callable[[str], ModelCard]) -> None:
        """`find_card` gives an installed model's card or raises what the catalogue raises."""
        raise NotImplementedError

    async def create(self, request_id: str, spec: JobSpec) -> Job:
        """As JobStore.create; a job whose input is already whole starts at once. `spec.stems` empty means all."""
        raise NotImplementedError

    async def append_input(self, job_id: str, offset: int, data: bytes) -> Job:
        """As JobStore.append_input; the job starts when its input is whole."""
        raise NotImplementedError

    async def get(self, job_id: str) -> Job:
        raise NotImplementedError

    async def list_jobs(self, *, after: str = "", limit: int = 100) -> list[Job]:
        raise NotImplementedError

    async def read_stem(self, job_id: str, stem: str, offset: int, size: int) -> bytes:
        raise NotImplementedError

    async def cancel(self, job_id: str) -> Job:
        """Stop a job between windows and keep what it has; a job that has ended stays as it is."""
        raise NotImplementedError

    async def delete(self, job_id: str) -> None:
        """Cancel if need be and remove every file."""
        raise NotImplementedError

    def watch(self, job_id: str, after_event: int = 0) -> AsyncIterator[Job]:
        """The job now (if its `sequence` is above `after_event`), then after changes, until it has ended.

        A slow reader misses states in between, never the last. Raises JobNotFound, also when deleted meanwhile.
        """
        raise NotImplementedError

    async def resume_all(self) -> list[str]:
        """At server start: go on with every job that was QUEUED or RUNNING, and delete expired ones."""
        raise NotImplementedError

    @property
    def running(self) -> int:
        """Jobs under way."""
        raise NotImplementedError

    async def close(self) -> None:
        """Stop between windows; the jobs stay RUNNING on disk and go on with the next server."""
        raise NotImplementedError
