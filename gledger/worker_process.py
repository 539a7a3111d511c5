"""The worker as a process of its own: the delivery worker, its wake-ups over Redis, its signals."""

from __future__ import annotations

import asyncio
import os
import signal

import structlog

from gledger import memory
from gledger.parts import open_parts
from gledger.settings import Settings
from gledger.worker import DeliveryWorker
from gledger.worker_metrics import serve_metrics

_log = structlog.get_logger("gledger.worker")


async def run_worker(settings: Settings) -> None:
    """Work until SIGTERM or SIGINT, then drain."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for each in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(each, stop.set)
    async with open_parts(settings) as parts:
        worker = DeliveryWorker(parts)
        # What the worker itself commits (facts about deliveries) is told to every process, this one included.
        parts.listeners.head.append(worker.wake)
        parts.listeners.head.append(parts.wakeups.head)
        parts.listeners.due.append(parts.wakeups.due)
        wakeups = [asyncio.create_task(parts.wakeups.run()), asyncio.create_task(parts.wakeups.listen(worker.heard))]
        try:
            async with serve_metrics(settings, parts.registry) as port:
                _log.info("worker.started", pid=os.getpid(), metrics_port=port)
                memory.settle()
                await worker.run(stop)
        finally:
            for task in wakeups:
                task.cancel()
            await asyncio.gather(*wakeups, return_exceptions=True)
