"""Measures `plcli serve` beside FastAPI with transformers.pipeline: requests of one row each.

    pip install fastapi
    python benchmarks/serve.py runs/NAME --texts texts.jsonl --column text

Both servers run in processes of their own, one after the other in turns, and a third process sends
the requests: so many clients, each of which waits for its answer before it sends the next one.
"""

import argparse
import asyncio
import json
import resource
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).resolve().parent


def free_port() -> int:
    """Return a port that no process listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextmanager
def running(words: list[str], port: int) -> Iterator[subprocess.Popen]:
    """Start a server, wait until it is ready, and end it."""
    server = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(600):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/ready", timeout=1).read()
                break
            except OSError:
                time.sleep(0.1)
        else:
            sys.exit(f"{' '.join(words)} does not answer")
        yield server
    finally:
        server.terminate()
        server.wait()


async def client(port: int, texts: list[str], until: float, seconds: list[float]) -> int:
    """Send one request after the other over one connection; return the number of failures."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    failed = number = 0
    while time.perf_counter() < until:
        body = json.dumps({"rows": [texts[number % len(texts)]]}).encode()
        number += 1
        head = f"POST /predict HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json"
        start = time.perf_counter()
        writer.write(f"{head}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        status = await reader.readline()
        length = 0
        while (line := await reader.readline()) not in (b"\r\n", b""):
            name, _, value = line.partition(b":")
            length = int(value) if name.lower() == b"content-length" else length
        await reader.readexactly(length)
        seconds.append(time.perf_counter() - start)
        failed += b" 200 " not in status
    writer.close()
    return failed


async def load(port: int, texts: list[str], clients: int, duration: float) -> dict[str, float]:
    """Return requests per second and percentiles of the times, after a warm-up of a second."""
    await asyncio.gather(
        *(client(port, texts[i:], time.perf_counter() + 1, []) for i in range(clients))
    )
    seconds: list[float] = []
    start = time.perf_counter()
    failed = await asyncio.gather(
        *(client(port, texts[i:], start + duration, seconds) for i in range(clients))
    )
    cuts = statistics.quantiles(seconds, n=100)
    return {
        "clients": clients,
        "requests_per_second": len(seconds) / (time.perf_counter() - start),
        **{f"p{each}_ms": cuts[each - 1] * 1000 for each in (50, 95, 99)},
        "failed": sum(failed),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run")
    parser.add_argument("--texts", required=True, help="a jsonl file")
    parser.add_argument("--column", default="text")
    parser.add_argument("--clients", default="1,8,64")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--engine", action="append", default=[], help="of plcli; repeatable")
    options = parser.parse_args()
    lines = Path(options.texts).read_text(encoding="utf-8").splitlines()
    texts = [json.loads(line)[options.column] for line in lines]
    plcli = [sys.executable, "-m", "plcli", "serve", options.run]
    contestants = {
        "plcli": plcli,
        **{f"plcli, {name}": [*plcli, "--engine", name] for name in options.engine},
        "FastAPI and pipeline": [
            *(sys.executable, str(HERE / "serve_pipeline.py"), str(Path(options.run) / "model")),
        ],
    }
    for _turn in range(options.turns):
        for name, words in contestants.items():
            port = free_port()
            with running([*words, "--port", str(port)], port) as server:
                for clients in map(int, options.clients.split(",")):
                    before = resource.getrusage(resource.RUSAGE_SELF).ru_utime
                    found = asyncio.run(load(port, texts, clients, options.seconds))
                    found["own_cpu_seconds"] = (
                        resource.getrusage(resource.RUSAGE_SELF).ru_utime - before
                    )
                    status = Path(f"/proc/{server.pid}/status")
                    if status.exists():
                        facts = status.read_text().splitlines()
                        peak = next(line for line in facts if line.startswith("VmHWM"))
                        found["peak_mb"] = int(peak.split()[1]) / 1024
                    print(name, {k: round(v, 2) for k, v in found.items()}, flush=True)
