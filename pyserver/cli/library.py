"""A whole library through several workers. The driver here deals out songs, and it alone puts finished files into
their place: however many workers may have done a song, one by one or cut off from us, its stems are written once.
"""

import asyncio
import contextlib
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from rich.progress import Progress, TaskID

from pyserver.cli import console, songs
from pyserver.cli.song_bounce import outputs, parts_of, published
from pyserver.cli.songs import Song
from pyserver.cli.workers import Crew, Skill, Worker, WorkerLost
from pyserver.errors import StemlineError
from pyserver.separation.errors import StemUnknown
from pyserver.service.channel import remote_error

_LOOK_FOR_POSTS_S = 2.0
_NOBODY_LIMIT_S = 30.0
_MOST_LOSSES = 3  # of a song and its workers, before the song is blamed; of a post in a row, before that is
_STORE_CALLS = 16

# The worker is gone, and another one may do better.
_LOST = {WorkerLost.reason, "SERVER_LOST", "SERVER_UNREACHABLE", "STORAGE_UNREACHABLE"}
# The worker can go on with nothing; with others it may be different.
_UNFIT = {"DISK_FULL", "STORAGE_DENIED", "PACKAGE_MISSING", "UNTRUSTED_SERVER"}


class WorkersDiffer(StemlineError):
    """Half of a library by one model and half by another is nothing that anybody wants."""

    reason = "WORKERS_DIFFER"


class NoWorkersLeft(StemlineError):
    reason = "NO_WORKERS_LEFT"


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What is to be done with the songs."""

    format: str
    overwrite: bool
    skip_done: bool


class Library:
    """Songs on their way through a crew, each by one worker at a time."""

    def __init__(self, crew: Crew, found: Sequence[Song], order: Order, failures: list[StemlineError]) -> None:
        self._crew, self._found, self._order, self._failures = crew, found, order, failures
        self._skill: Skill | None = None
        self._remaining: deque[Song] = deque(found)
        self._underway = 0
        self._changed = asyncio.Condition()
        self._preparing = asyncio.Lock()
        self._finished = asyncio.Event()
        self._losses: Counter[Song] = Counter()  # of workers, by the song they had
        self._strikes: Counter[str] = Counter()  # of posts, since a song was done there
        self._unfit: dict[str, StemlineError] = {}
        self._on_duty: set[str] = set()

    async def bounce(self) -> None:
        """All songs. What is wrong with one is told and noted in `failures`, and the others are done.

        Raises what no worker can help; cancelled, it leaves finished songs and nothing else.
        """
        with console.separation_progress() as self._progress:
            self._tally = _Tally(self._progress)
            at_work: dict[str, asyncio.Task[None]] = {}
            finished = asyncio.create_task(self._finished.wait())
            try:
                await self._staffed(at_work, finished)
                for post in at_work.keys() - self._on_duty:  # still starting, and not needed any more
                    at_work[post].cancel()
            except BaseException:
                for task in (finished, *at_work.values()):
                    task.cancel()
                raise
            finally:
                await asyncio.gather(*at_work.values(), return_exceptions=True)
        if self._tally.done:
            console.say(self._tally.summary())

    async def _staffed(self, at_work: dict[str, "asyncio.Task[None]"], finished: "asyncio.Task[bool]") -> None:
        """Until all is done, there is a worker wherever there can be one."""
        last_seen = time.monotonic()
        while not finished.done():
            for post in await self._crew.posts():
                if post not in at_work and post not in self._unfit:
                    at_work[post] = asyncio.create_task(self._work_at(post))
            if at_work:
                last_seen = time.monotonic()
            elif self._unfit or time.monotonic() - last_seen > _NOBODY_LIMIT_S:
                raise self._nobody_left()
            await asyncio.wait(
                {finished, *at_work.values()}, timeout=_LOOK_FOR_POSTS_S, return_when=asyncio.FIRST_COMPLETED
            )
            for post in [post for post, task in at_work.items() if task.done()]:
                self._left(post, at_work.pop(post), alone=not at_work)

    def _left(self, post: str, task: "asyncio.Task[None]", *, alone: bool) -> None:
        """Notes why a worker has stopped. Raises what is not the worker's fault."""
        self._on_duty.discard(post)
        error = task.exception()
        if error is None:
            return
        if not isinstance(error, _Stopped):
            raise error
        self._strikes[post] += 1
        again = error.cause.reason in _LOST and self._strikes[post] < _MOST_LOSSES
        if not again:
            self._unfit[post] = error.cause
        if again or not alone:
            self._say(f"stemline bounce: {post}: {error.cause}" + ("" if again else "; going on without it"))

    def _nobody_left(self) -> StemlineError:
        left = len(self._remaining)
        going_on = f"no worker is left, and {left} songs are not done; run the same command with --skip-done to go on"
        if not self._unfit:
            return NoWorkersLeft(going_on, songs=left)
        post, cause = self._unfit.popitem()
        if not self._tally.done:
            return cause
        return remote_error(cause.reason, f"{post}: {cause}; {going_on}", cause.metadata)

    async def _work_at(self, post: str) -> None:
        """Raises _Stopped if the worker has not started or cannot go on."""
        async with contextlib.AsyncExitStack() as duty:
            try:
                worker = await duty.enter_async_context(self._crew.worker(post))
            except StemlineError as error:
                if error.reason == StemUnknown.reason:
                    raise  # nobody will know it
                raise _Stopped(error) from error
            self._on_duty.add(post)
            await self._prepare(worker.skill)
            while (song := await self._next()) is not None:
                try:
                    await self._do(worker, song)
                finally:
                    await self._put_down(song)
                self._strikes[post] = 0

    async def _prepare(self, skill: Skill) -> None:
        """The first worker's skill says which stems are to be made, and so which songs are left. Raises OutputExists
        before any work, and _Stopped for one who would make other stems than the first.
        """
        async with self._preparing:
            if self._skill is None:
                self._remaining = deque(await asyncio.to_thread(self._free_to_write, skill))
                self._skill = skill
                self._tally.start(len(self._remaining))
                if not self._remaining:
                    self._finished.set()
        if skill != self._skill:
            raise _Stopped(
                WorkersDiffer(
                    f"it has {skill.model} {skill.weights_sha256[:12]} of Stemline {skill.version}, the others "
                    f"{self._skill.model} {self._skill.weights_sha256[:12]} of {self._skill.version}"
                )
            )

    def _free_to_write(self, skill: Skill) -> list[Song]:
        written, order = outputs(skill.stems), self._order
        with ThreadPoolExecutor(_STORE_CALLS) as pool:
            present = list(pool.map(lambda song: song.present(written, order.format), self._found))
        wanted = [
            (song, there)
            for song, there in zip(self._found, present, strict=True)
            if not (order.skip_done and len(there) == len(written))
        ]
        if not order.overwrite:
            songs.require_none(path for _, there in wanted for path in there)
        return [song for song, _ in wanted]

    async def _next(self) -> Song | None:
        """None when all is done; until then one that waits may still get the song of another that is lost."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._remaining or not self._underway)
            if not self._remaining:
                return None
            self._underway += 1
            return self._remaining.popleft()

    async def _put_down(self, song: Song) -> None:
        async with self._changed:
            self._underway -= 1
            if not self._remaining and not self._underway:
                self._finished.set()
            self._changed.notify_all()

    async def _do(self, worker: Worker, song: Song) -> None:
        """Raises _Stopped if the worker cannot go on, and then the song is another's."""
        try:
            async with parts_of(song) as parts:
                names = await worker.separate(song, parts, self._progress)
                paths = await published(parts, names, song.directory)
        except StemlineError as error:
            if error.reason in _UNFIT or (error.reason in _LOST and self._may_be_repeated(song)):
                self._remaining.appendleft(song)
                raise _Stopped(error) from error
            named = "" if str(song.source) in str(error) else f"{song.source}: "
            self._say(f"stemline bounce: {named}{error}")
            self._failures.append(error)
            self._tally.add(failed=True)
            if error.reason in _LOST:
                raise _Stopped(error) from error
        else:
            with _aside(self._progress):
                for path in paths:
                    console.stdout.print(str(path))
            self._tally.add()

    def _may_be_repeated(self, song: Song) -> bool:
        self._losses[song] += 1
        return self._losses[song] < _MOST_LOSSES

    def _say(self, text: str) -> None:
        with _aside(self._progress):
            console.say(text)


class _Stopped(Exception):
    """Of a worker, and why."""

    def __init__(self, cause: StemlineError) -> None:
        super().__init__(str(cause))
        self.cause = cause


@contextlib.contextmanager
def _aside(progress: Progress) -> Iterator[None]:
    """Inside, the screen is free of bars, and what is printed on stdout goes there."""
    if not progress.console.is_interactive:
        yield
        return
    progress.stop()
    try:
        yield
    finally:
        progress.start()


class _Tally:
    """The line for the library as a whole."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task: TaskID = progress.add_task("starting workers", total=None, speed="", left="")
        self._begun = time.monotonic()
        self.total = self.done = self.failed = 0

    def start(self, total: int) -> None:
        self.total, self._begun = total, time.monotonic()
        self._show()

    def add(self, *, failed: bool = False) -> None:
        self.done += 1
        self.failed += failed
        self._show()

    def summary(self) -> str:
        return f"{self._counts()} in {console.clock(time.monotonic() - self._begun)}, {self._rate():.0f} songs an hour"

    def _counts(self) -> str:
        return f"{self.done} of {self.total} songs" + (f" ({self.failed} failed)" if self.failed else "")

    def _rate(self) -> float:
        return 3600 * self.done / max(1e-3, time.monotonic() - self._begun)

    def _show(self) -> None:
        left = f"{console.clock(3600 * (self.total - self.done) / self._rate())} left" if self.done else ""
        self._progress.update(
            self._task,
            description=self._counts(),
            completed=self.done,
            total=self.total,
            speed=f"{self._rate():.0f} songs an hour" if self.done else "",
            left=left,
        )
