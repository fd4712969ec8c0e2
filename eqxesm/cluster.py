"""Blocks of records on a Ray cluster: every actor has the model, and writes a part of the output for each block.

All nodes must see the same files, since the parts are written beside the output.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from eqxesm.errors import InputError, missing_extra, one_line
from eqxesm.parts import Parts
from eqxesm.records import Block, Worker

WAITING = 2
"""Blocks that an actor is given at a time, so that it need not wait for the next."""

MOST_DEATHS = 5
"""Of every actor, before it is no accident."""

CPUS = 2
"""Of an actor, where the cluster has no GPU."""


class Actor:
    """A worker on some node."""

    def __init__(self, make_worker: Callable[[], Worker], write: Callable[[Path, Any], object]):
        self.worker = make_worker()
        self.write = write

    def is_ready(self) -> bool:
        return True

    def work(self, block: Block, path: Path) -> tuple[int, int, str]:
        """Write the part of a block. Returns how many records were used and how many not, and why it was refused."""
        used, unused = self.worker.used, self.worker.unused
        try:
            # Others may have used records where this one has not, and full batches need fewer shapes.
            self.write(path, self.worker(replace(block, more=True), lambda _: None))
        except InputError as error:
            return 0, len(block.records), str(error)
        return self.worker.used - used, self.worker.unused - unused, ""


def work_on_cluster(
    address: str,
    blocks: Iterable[Block],
    parts: Parts,
    make_worker: Callable[[], Worker],
    write: Callable[[Path, Any], object],
    advance: Callable[[int], Any],
) -> tuple[int, int]:
    """Work on the blocks that have no part yet. A block whose node dies is worked on again, on another.

    Args:
        address: of the cluster, or `auto` for the one that this machine belongs to.

    Returns:
        How many records were used, and how many not.
    """
    ray = _connect(address)
    pool = _Pool(ray, make_worker, write)
    used = unused = total = records = 0

    def missing() -> Iterator[Block]:
        nonlocal total, records
        for block in blocks:
            total, records = total + 1, records + len(block.records)
            if parts.done(block.number):
                advance(len(block.records))
            else:
                yield block

    waiting = missing()
    try:
        while True:
            if pool.has_room():
                # A block that was lost may come back when the input is at its end.
                block = pool.lost.pop() if pool.lost else next(waiting, None)
                if block is not None:
                    pool.give(block, parts.path(block.number))
                    continue
                if not pool.given:
                    break
            settled = pool.settle()
            if settled is not None:
                block, (now_used, now_unused, fault) = settled
                if fault:
                    raise InputError(fault)
                used, unused = used + now_used, unused + now_unused
                advance(len(block.records))
        parts.end(total)
    finally:
        pool.stop()
    if unused and unused == records:
        raise InputError(f"none of {unused:,} proteins can be used")
    return used, unused


def _connect(address: str) -> Any:
    """Ray's module, joined to the cluster."""
    try:
        import ray
    except ModuleNotFoundError as error:
        raise missing_extra("ray", "ray") from error
    if not ray.is_initialized():
        try:
            ray.init(address, log_to_driver=False)
        except ConnectionError as error:
            raise InputError(f"--ray {address}: no cluster answers. Start one with: ray start --head") from error
    return ray


class _Pool:
    """Actors, and the blocks that they were given. One that dies is replaced, where there is room for another."""

    def __init__(self, ray: Any, *arguments: Any):
        resources = ray.cluster_resources()
        gpus, cpus = int(resources.get("GPU", 0)), int(resources.get("CPU", 1))
        count = gpus or max(1, cpus // CPUS)
        needs = {"num_gpus": 1} if gpus else {"num_cpus": min(CPUS, cpus)}
        self.ray = ray
        self.make = partial(ray.remote(Actor).options(**needs).remote, *arguments)
        self.actors: list[Any] = []
        self.starting: dict[Any, Any] = {}
        self.given: dict[Any, tuple[Any, Block]] = {}
        self.lost: list[Block] = []
        self.deaths, self.most_deaths = 0, MOST_DEATHS * count
        for _ in range(count):
            self.start()

    def start(self) -> None:
        actor = self.make()
        self.starting[actor.is_ready.remote()] = actor

    def load(self, actor: Any) -> int:
        return sum(busy is actor for busy, _ in self.given.values())

    def has_room(self) -> bool:
        return any(self.load(actor) < WAITING for actor in self.actors)

    def give(self, block: Block, path: Path) -> None:
        actor = min(self.actors, key=self.load)
        self.given[actor.work.remote(block, path)] = actor, block

    def settle(self) -> tuple[Block, tuple[int, int, str]] | None:
        """Wait until something happens. Returns a block with what came of it, if it was that."""
        (done,), _ = self.ray.wait([*self.given, *self.starting], num_returns=1)
        starting = self.starting.pop(done, None)
        actor, block = (starting, None) if starting is not None else self.given.pop(done)
        try:
            result = self.ray.get(done)
        except self.ray.exceptions.RayActorError as error:
            self.bury(actor, block)
            if self.deaths > self.most_deaths:
                raise InputError(f"{self.deaths} workers died, the last one so: {one_line(error)}") from error
            return None
        if block is None:
            self.actors.append(actor)
            return None
        return block, result

    def bury(self, actor: Any, block: Block | None) -> None:
        if block is not None:
            self.lost.append(block)
        # Of its blocks, the first tells that it is dead.
        if block is None or any(each is actor for each in self.actors):
            self.actors = [each for each in self.actors if each is not actor]
            self.deaths += 1
            self.start()

    def stop(self) -> None:
        for actor in [*self.actors, *self.starting.values()]:
            self.ray.kill(actor)
