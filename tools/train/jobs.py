"""Runs the steps of the recipe in order, several at a time where they don't depend on each other, in the foreground or
in the background."""

import json
import os
import signal
import subprocess
import sys
import time

from . import estimator, expert, photos, pool, router, tree
from .workspace import PACKAGE


class Step:
    """A subcommand, when it may start and when it is done."""

    def __init__(self, arguments, ready, done):
        self.arguments, self.ready, self.done = arguments, ready, done

    @property
    def name(self):
        return " ".join(self.arguments)


def steps(ws):
    """All steps that are known so far, most urgent first; the pool's experts are known once there is a tree."""
    fetched = lambda: photos.is_done(ws)
    exported = ws.path("export", "expected.safetensors")
    listed = [
        Step(["photos"], lambda: True, fetched),
        Step(["expert", pool.COARSE], fetched, lambda: expert.is_done(ws, pool.COARSE)),
        Step(["estimator"], fetched, lambda: estimator.is_done(ws)),
        Step(["tree"], lambda: estimator.is_done(ws), lambda: tree.is_done(ws)),
    ]
    if not tree.is_done(ws):
        return listed
    experts = [e for e in pool.load(ws)["experts"] if e["name"] != pool.COARSE]
    for e in experts:
        ready = (lambda parent: lambda: parent is None or expert.is_done(ws, parent))(e["parent"])
        listed.append(Step(["expert", e["name"]], ready, (lambda name: lambda: expert.is_done(ws, name))(e["name"])))
    everything = list(listed)
    listed.append(Step(["router"], lambda: all(s.done() for s in everything), lambda: router.is_done(ws)))
    listed.append(Step(["export"], lambda: router.is_done(ws),
                       lambda: exported.exists() and exported.stat().st_mtime > ws.path("runs", "router", "state.pt").stat().st_mtime))
    return listed


def command(ws, *arguments):
    return [sys.executable, "-m", "train", "--config", str(ws.config_path), "--cache", str(ws.cache), *arguments]


ATTEMPTS, PAUSE = 3, 30  # for a step that fails, as when the disk was full for a moment; seconds before the next one


def run(ws, hours=None):
    """Start steps as they become ready until all are done. Steps save their state when they are told to end."""
    deadline = time.monotonic() + 3600 * hours if hours else None
    running, failures, told = {}, {}, []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: told.append(True))
    try:
        while not told and (deadline is None or time.monotonic() < deadline):
            for name, process in list(running.items()):
                code = process.poll()
                if code is not None:
                    del running[name]
                    failures[name] = failures.get(name, 0) + 1 if code else 0
                    if failures[name] == ATTEMPTS:
                        raise SystemExit(f"step {name} ended with code {code}, {ATTEMPTS} times")
                    if code:
                        print(f"step {name} ended with code {code}", flush=True)
                        time.sleep(PAUSE)
            waiting = [s for s in steps(ws) if not s.done()]
            if not waiting and not running:
                return 0
            for step in waiting:
                if len(running) < ws["workers"] and step.name not in running and step.ready():
                    print(time.strftime("%H:%M:%S"), "start", step.name, flush=True)
                    running[step.name] = subprocess.Popen(command(ws, *step.arguments), cwd=PACKAGE.parent)
            time.sleep(0.5)
    finally:
        for process in running.values():
            process.terminate()
        for process in running.values():
            process.wait()
    return 0


def pid_file(ws):
    return ws.path("train.pid")


def background(ws):
    """The process of the background run, or None. It leads a process group of its own."""
    try:
        pid = int(pid_file(ws).read_text())
        arguments = open(f"/proc/{pid}/cmdline", "rb").read().split(b"\0")
    except (OSError, ValueError):
        return None
    return pid if b"train" in arguments and str(ws.cache).encode() in arguments else None


def start(ws, args):
    if background(ws):
        raise SystemExit("a background run is there already")
    arguments = ["--hours", str(args.hours)] if args.hours else []
    with open(ws.path("train.log"), "a") as log:
        process = subprocess.Popen(["nice", "-n", "19", *command(ws, "run", *arguments)], cwd=PACKAGE.parent, stdout=log,
                                   stderr=log, stdin=subprocess.DEVNULL, start_new_session=True)
    pid_file(ws).write_text(f"{process.pid}\n")
    print(f"process {process.pid}, log in {ws.path('train.log')}")
    return 0


def send(ws, number):
    pid = background(ws)
    if pid is None:
        raise SystemExit("no background run")
    os.killpg(pid, number)
    return 0


def pause(ws, args):
    return send(ws, signal.SIGSTOP)


def resume(ws, args):
    return send(ws, signal.SIGCONT)


def stop(ws, args):
    send(ws, signal.SIGCONT)
    os.kill(background(ws), signal.SIGTERM)
    while background(ws):
        time.sleep(0.2)
    return 0


def status(ws, args):
    pid = background(ws)
    print("background run:", "none" if pid is None else f"process {pid}, {state(pid)}")
    for step in steps(ws):
        print(f"{'done' if step.done() else 'to do':6s} {step.name:32s} {curve(ws, step)}")
    return 0


def state(pid):
    letter = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()[0]
    return "paused" if letter == "T" else "running"


def curve(ws, step):
    """The last line of a step's curve that has its loss, in words, or nothing."""
    name = expert.run_name(step.arguments[1]) if len(step.arguments) > 1 else step.arguments[0]
    path = ws.path("runs") / name / "curve.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    losses = [line for line in lines if "loss" in line]
    if not losses:
        return ""
    last = losses[-1]
    return f"step {last['step']}, {last['seconds'] / 3600:.2f} h, loss {last['loss']:.4f}"
