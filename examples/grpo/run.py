#!/usr/bin/env python3
"""A real GRPO loop whose batches `saerl serve` chooses, killed and resumed bit for bit.

    run.py [--program saerl] [--steps 60] [--dir DIR]

Trains twice from the same start: once undisturbed; once with the sidecar killed (-9) and started
again under a waiting trainer, and later both killed in mid-step and resumed from the last
checkpoint. Exit status 0: both end with the same weights, and were given the same prompts in every
batch. Needs torch, numpy and pyzmq (Debian: python3-torch, python3-numpy, python3-zmq).
"""

import argparse
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
CLIENT = HERE.parent.parent / "clients" / "python"
CHECKPOINT_EVERY = 5


class Run:
    """One training run: its sidecar, its trainer, and what they said."""

    def __init__(self, options, name):
        self.options = options
        self.folder = options.dir / name
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()
        # A socket's path may have 107 characters; a temporary folder's name may be long already.
        self.socket_folder = tempfile.mkdtemp(prefix="saerl-")
        self.endpoint = "ipc://%s/s" % self.socket_folder
        self.sidecar = self.trainer = None

    def start_sidecar(self):
        with open(self.folder / "sidecar.log", "ab") as log:
            self.sidecar = subprocess.Popen(
                [self.options.program, "serve", self.options.dir / "recipe.yaml", "--bind",
                 self.endpoint, "--state", self.folder / "state"],
                stdout=log, stderr=log)

    def start_trainer(self, *more):
        # One thread each: the same additions in the same order.
        environment = dict(os.environ, OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1",
                           PYTHONPATH=str(CLIENT), PYTHONDONTWRITEBYTECODE="1")
        self.trainer = subprocess.Popen(
            [sys.executable, HERE / "train.py", self.options.dir, self.endpoint,
             self.folder / "out", "--steps", str(self.options.steps), "--checkpoint-every",
             str(CHECKPOINT_EVERY), *more],
            stdout=subprocess.PIPE, text=True, env=environment)

    def follow(self, until=None):
        """Pass on what the trainer says, up to and with step `until`, or to its end."""
        for line in self.trainer.stdout:
            print("  " + line, end="", flush=True)
            done = re.match(r"step (\d+) ", line)
            if until is not None and done and int(done.group(1)) >= until:
                return
        status = self.trainer.wait()
        if status or until is not None:
            tail = (self.folder / "sidecar.log").read_text(errors="replace")[-2000:]
            raise SystemExit("run.py: the trainer ended with status %d; the sidecar's last words:\n%s"
                             % (status, tail))

    def kill(self, process):
        process.kill()
        process.wait()

    def close(self):
        for process in (self.trainer, self.sidecar):
            if process is not None and process.poll() is None:
                self.kill(process)
            if process is not None and process.stdout:
                process.stdout.close()
        shutil.rmtree(self.socket_folder, ignore_errors=True)

    def result(self):
        return json.loads((self.folder / "out" / "result.json").read_text())


def undisturbed(options):
    run = Run(options, "undisturbed")
    try:
        run.start_sidecar()
        run.start_trainer()
        run.follow()
        return run.result()
    finally:
        run.close()


def disturbed(options):
    """Killed where it hurts: the second time two steps after a checkpoint, in mid-step."""
    first = options.steps // 4
    second = options.steps // 2 // CHECKPOINT_EVERY * CHECKPOINT_EVERY + 2
    run = Run(options, "disturbed")
    try:
        run.start_sidecar()
        run.start_trainer()
        run.follow(first)
        print("  kill -9: the sidecar; it is started again, the trainer waits", flush=True)
        run.kill(run.sidecar)
        time.sleep(0.5)
        run.start_sidecar()
        run.follow(second)
        print("  kill -9: the sidecar and the trainer", flush=True)
        run.kill(run.sidecar)
        run.kill(run.trainer)
        run.trainer.stdout.close()
        run.start_sidecar()
        run.start_trainer("--resume")
        run.follow()
        return run.result()
    finally:
        run.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--program", default="saerl", help="default: the one in PATH")
    parser.add_argument("--steps", type=int, default=60, help="at least 14")
    parser.add_argument("--dir", type=pathlib.Path, help="default: a temporary folder, removed")
    options = parser.parse_args()
    if options.steps < 14:
        parser.error("--steps: %d, expected at least 14" % options.steps)
    temporary = options.dir is None
    if temporary:
        options.dir = pathlib.Path(tempfile.mkdtemp(prefix="saerl-grpo-"))
    try:
        if not (options.dir / "warm.pt").exists():
            subprocess.run([sys.executable, "-B", HERE / "prepare.py", options.dir], check=True,
                           env=dict(os.environ, OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1"))
        print("undisturbed:", flush=True)
        expected = undisturbed(options)
        print("killed and resumed:", flush=True)
        found = disturbed(options)
    finally:
        if temporary:
            shutil.rmtree(options.dir, ignore_errors=True)
    for seq, (a, b) in enumerate(zip(expected["sids"], found["sids"])):
        if a != b:
            raise SystemExit("run.py: batch %d: %s, undisturbed %s" % (seq, b, a))
    if expected != found:
        raise SystemExit("run.py: other weights than undisturbed: %s, %s"
                         % (found["weights"], expected["weights"]))
    print("the same %d batches, the same weights: sha256 %s" % (options.steps, found["weights"]))


if __name__ == "__main__":
    main()
