"""What else can happen to a sidecar: a full disk, one that fails or cannot be written, SIGTERM and
SIGSTOP under load, few descriptors.

SAERL_FAULTS=long does each often (scripts/sidecar_faults.sh), else a few times. What needs root or
strace is skipped without.
"""

import os
import pathlib
import re
import resource
import shutil
import signal
import subprocess
import time
import unittest
from unittest import mock

import sidecar_case
import test_serve_kills as kills
from sidecar_case import Peer, Refused, Sidecar, SidecarCase

LONG = os.environ.get("SAERL_FAULTS") == "long"
STRACE = shutil.which("strace")


class Signals(kills.Accounted):
    def terminate(self):
        self.wait_for_anyone(self.calls())
        time.sleep(self.random.uniform(0, 0.2))
        self.assertEqual(self.sidecar.stop(), 0, self.sidecar.said()[-2000:])
        self.sidecar = self.start()

    def pause(self):
        self.wait_for_anyone(self.calls())
        self.sidecar.process.send_signal(signal.SIGSTOP)
        time.sleep(self.random.uniform(0.1, 8 if LONG else 1))
        self.sidecar.process.send_signal(signal.SIGCONT)
        self.wait_for_anyone(self.calls())

    def test_sigterm_loses_nothing(self):
        self.under_load(100 if LONG else 5, "times SIGTERM", self.terminate)

    def test_a_pause_loses_nothing(self):
        self.under_load(20 if LONG else 2, "times SIGSTOP and SIGCONT", self.pause)


class Faults(SidecarCase):
    def setUp(self):
        super().setUp()
        self.write_world(60, recipe="clustering: {clusters: 3}\nbatches: {size: 8, order: none}\n")

    def start(self, **more):
        sidecar = Sidecar(self.dir, self.dir / "recipe.yaml", **more)
        self.addCleanup(sidecar.__exit__)
        return sidecar

    def under(self, *command):
        """Every sidecar from now on is started by this command."""
        wrapper = self.dir / "wrapper"
        wrapper.write_text("#!/bin/sh\n%s \"$0.real\" \"$@\"\n" % " ".join(command))
        wrapper.chmod(0o755)
        real = self.dir / "wrapper.real"
        if not real.exists():
            real.symlink_to(pathlib.Path(sidecar_case.PROGRAM).resolve())
        return mock.patch("sidecar_case.PROGRAM", str(wrapper))

    def feed(self, peer, seq, acknowledged, n=100):
        """Feedback until it is refused; what was acknowledged is written down. True: never refused."""
        sid = peer.fetch(seq, 4)[1]["sid"][0]
        for _ in range(n):
            rollout = len(acknowledged)
            told = peer.feedback(seq, [(sid, 1.0, rollout)])
            self.assertEqual((told["accepted"], told["duplicate"]), (1, 0))
            acknowledged.append((seq, sid, rollout))

    def all_there(self, peer, acknowledged):
        for seq, sid, rollout in acknowledged:
            self.assertEqual(peer.feedback(seq, [(sid, 1.0, rollout)])["duplicate"], 1, (seq, sid, rollout))

    def tmpfs(self, size):
        state = self.dir / "state"
        state.mkdir(mode=0o700)
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=%s,mode=0700" % size, "tmpfs", str(state)],
                              capture_output=True)
        if done.returncode:
            self.skipTest("tmpfs cannot be mounted here")
        self.addCleanup(subprocess.run, ["umount", "-l", str(state)], check=True)
        return state

    @unittest.skipUnless(os.geteuid() == 0, "needs root for a small file system")
    def test_a_full_disk_is_told_and_left_behind(self):
        state = self.tmpfs("6m")
        sidecar = self.start()
        peer, acknowledged = sidecar.peer(), []
        self.feed(peer, 0, acknowledged, 5)
        free = os.statvfs(state)
        ballast = state / "ballast"
        ballast.write_bytes(bytes(max(0, free.f_bavail * free.f_bsize - (256 << 10))))
        with self.assertRaises(Refused) as caught:
            for seq in range(1, 1000):
                self.feed(peer, seq, acknowledged, 20)
        self.assertEqual(caught.exception.code, "E_IO")
        self.assertTrue(caught.exception.header["retryable"])
        self.assertEqual(peer.call("PING")[0]["state"], "ready", sidecar.said()[-1500:])
        told = len(acknowledged)
        ballast.unlink()
        seq = peer.hello()["next_seq"]
        self.feed(peer, seq, acknowledged, 20)
        self.assertEqual(len(acknowledged), told + 20)
        self.all_there(peer, acknowledged)
        sidecar.kill()
        self.all_there(self.start().peer(), acknowledged)

    @unittest.skipUnless(os.geteuid() == 0, "needs root for a file system that cannot be written")
    def test_a_state_that_cannot_be_written_is_refused_at_once(self):
        state = self.tmpfs("16m")
        sidecar, acknowledged = self.start(), []
        self.feed(sidecar.peer(), 0, acknowledged, 5)
        self.assertEqual(sidecar.stop(), 0)
        subprocess.run(["mount", "-o", "remount,ro", str(state)], check=True)
        before = len(sidecar.said())
        sidecar = self.start(wait=False)
        self.assertNotEqual(sidecar.process.wait(60), 0)
        errors = [line for line in sidecar.said()[before:].splitlines() if line.startswith("saerl: ")]
        self.assertEqual(len(errors), 1, errors)
        self.assertIn("state", errors[0])
        subprocess.run(["mount", "-o", "remount,rw", str(state)], check=True)
        self.all_there(self.start().peer(), acknowledged)

    @unittest.skipUnless(STRACE, "strace is not here")
    def test_a_sync_that_fails_is_never_acknowledged(self):
        self.start().stop()
        acknowledged, failed = [], 0
        for n in range(1, 41) if LONG else (1, 2, 5, 9):
            trace = "%s -f -o /dev/null -e trace=fdatasync,fsync" % STRACE
            trace += " -e inject=fdatasync,fsync:error=EIO:when=%d+" % n
            with self.under(trace):
                sidecar = self.start(wait=False)
            try:
                sidecar.wait_ready()
                peer = sidecar.peer()
                while True:
                    self.feed(peer, peer.hello()["next_seq"], acknowledged, 3)
            except Refused as refused:
                # Busy with leaving, where it was one of its own commits that failed.
                self.assertIn(refused.code, ("E_IO", "E_BUSY"), refused)
                failed += refused.code == "E_IO"
            except (AssertionError, OSError) as error:  # it had ended before it could say so
                if "strace" in sidecar.said() and "attach" in sidecar.said():
                    self.skipTest("strace may not trace here")
                if isinstance(error, AssertionError) and "the sidecar ended" not in str(error):
                    raise
            self.assertNotEqual(sidecar.process.wait(30), 0, sidecar.said()[-1000:])
            sidecar = self.start()
            self.all_there(sidecar.peer(), acknowledged)
            sidecar.stop()
        print("%d rollouts acknowledged, E_IO told %d times" % (len(acknowledged), failed))
        self.assertGreater(failed, 0)
        self.assertGreater(len(acknowledged), 0)

    def test_few_descriptors_do_not_stop_the_state(self):
        if resource.getrlimit(resource.RLIMIT_NOFILE)[1] < 256:
            self.skipTest("fewer than 256 descriptors here")
        with self.under("ulimit -n 256; exec"):
            sidecar = self.start()
        peer, acknowledged, strangers = sidecar.peer(), [], []
        try:
            for _ in range(400):
                strangers.append(Peer(sidecar.path, timeout=2, handshake=False))
        except OSError:
            pass  # the backlog is full
        self.assertGreater(len(strangers), 100)
        # To free descriptors the sidecar may close every connection, as often as strangers come.
        end = time.monotonic() + 60
        while len(acknowledged) < 100:
            self.assertLess(time.monotonic(), end, "feedback is not taken any more")
            try:
                if peer is None:
                    peer = Peer(sidecar.path, timeout=5)
                self.feed(peer, peer.hello()["next_seq"], acknowledged, 5)
            except OSError:
                if peer:
                    peer.close()
                peer = None
        if peer:
            peer.close()
        for stranger in strangers:
            stranger.close()
        late = None
        end = time.monotonic() + 30
        while late is None:
            self.assertLess(time.monotonic(), end, "nobody can connect any more")
            try:
                late = Peer(sidecar.path, timeout=5)
                late.hello(client="late")
            except OSError:
                if late:
                    late.close()
                late = None
        self.all_there(late, acknowledged)
        self.assertEqual(sidecar.stop(), 0)


if __name__ == "__main__":
    unittest.main()
