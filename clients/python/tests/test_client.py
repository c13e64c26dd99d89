"""saerl.Curator against a sidecar that loses replies, forgets, is busy, restarts and goes away."""

import logging
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import unittest

from support import PACKAGE, FolderCase, need

need("numpy", "zmq")

import numpy as np  # noqa: E402
import zmq  # noqa: E402
from mock_sidecar import MockSidecar, plan_sid  # noqa: E402

from saerl import (Curator, CuratorError, KeyNotAllowed, SidecarAway, SidecarError,  # noqa: E402
                   SpoolFull, wire)
from saerl.wire import Kind  # noqa: E402

logging.disable(logging.CRITICAL)


class ClientCase(FolderCase):
    def sidecar(self, **more):
        mock = MockSidecar("ipc://%s/s" % self.dir, **more)
        self.addCleanup(mock.stop)
        return mock

    def curator(self, mock, **more):
        more.setdefault("timeout_s", 10)
        curator = Curator(mock if isinstance(mock, str) else mock.endpoint, "run", **more)
        self.addCleanup(curator.close)
        return curator

    def requests(self, mock, kind):
        return [(session, request, flags) for k, session, request, flags in mock.received if k == kind]


class Calls(ClientCase):
    def test_every_call_gives_its_result(self):
        mock = self.sidecar()
        curator = self.curator(mock)
        info = curator.hello()
        self.assertEqual((info.next_seq, info.sae["d_in"], info.dataset["rows"]), (0, 8, 1000))
        self.assertEqual(curator.ping().state, "ready")
        batch = curator.fetch(0, 4)
        self.assertEqual(batch.sid.tolist(), [plan_sid(i, 1000) for i in range(4)])
        self.assertEqual((batch.seq, batch.epoch, batch.exhausted, batch.fallback, batch.local),
                         (0, 0, False, False, False))
        self.assertEqual(batch.difficulty.dtype, np.float32)
        self.assertIsNone(batch.n_rollouts)
        self.assertEqual(curator.peek(2).tolist(), [plan_sid(4, 1000), plan_sid(5, 1000)])
        told = curator.feedback(0, [*batch.sid, 999999], [1, 0, np.nan, 1, 1], length=[1] * 5,
                                answer=[0] * 5, policy_version=3, final=True)
        self.assertEqual(told[:4], (3, 0, 1, 1))
        act = np.ones((3, 8), np.float32)
        act[1] = np.nan
        done = curator.submit([7, 8, 9], act=act, text=["a", "é", ""])
        self.assertEqual((done.accepted, done.rejected, done.reason.tolist()), (2, 1, [0, 3, 0]))
        scores = curator.score([7, 8, 9], act=act)
        self.assertEqual((scores.keep.tolist(), scores.model), ([True, False, True], "dataset"))
        plan = curator.curate([7, 8, 9], batch_size=1, set={"batches.order": "random"}, act=act)
        self.assertEqual([b.tolist() for b in plan.batches()], [[7], [9]])
        attached = curator.attach(prompts=["row 3", "row 3", "x", [{"role": "user", "content": "y"}]])
        self.assertEqual((attached.matched, attached.unknown, attached.duplicates,
                          attached.row.tolist()), (2, 2, 1, [3, 3, -1, -1]))
        saved = curator.save("a", consumed_seq=1, inline=True)
        self.assertEqual((saved.tag, saved.next_seq, saved.n_bytes), ("a", 1, len(saved.state)))
        self.assertIsNone(curator.save("b").state)
        self.assertEqual(curator.stats()["feedback"], 3)
        curator.fetch(1, 4)
        self.assertEqual(curator.restore("a")[:2], (1, 1))
        self.assertEqual(curator.restore(saved.state)[:2], (1, 0))
        curator.shutdown()

    def test_a_session_is_opened_once_and_closed(self):
        mock = self.sidecar()
        with Curator(mock.endpoint, "run", timeout_s=10) as curator:
            for i in range(3):
                curator.next_batch(2)
        self.assertEqual(mock.kinds(), ["HELLO", "FETCH", "FETCH", "FETCH", "BYE"])
        with self.assertRaisesRegex(CuratorError, "closed"):
            curator.ping()
        curator.close()

    def test_errors_of_the_sidecar_are_raised_with_their_code(self):
        curator = self.curator(self.sidecar())
        with self.assertRaises(SidecarError) as caught:
            curator.fetch(3, 4)
        self.assertEqual((caught.exception.code, caught.exception.retryable), ("E_SEQ_GAP", False))
        again = pickle.loads(pickle.dumps(caught.exception))
        self.assertEqual((again.code, str(again)), (caught.exception.code, str(caught.exception)))
        with self.assertRaises(SidecarError) as caught:
            curator.submit([1], act=np.ones((1, 9)))
        self.assertEqual((caught.exception.code, caught.exception.field), ("E_BAD_TENSOR", "act"))

    def test_the_end_of_the_last_epoch_is_no_error(self):
        curator = self.curator(self.sidecar(rows=10, epochs=1))
        told = [(len(b.sid), b.exhausted) for b in (curator.next_batch(4) for _ in range(5))]
        self.assertEqual(told, [(4, False), (4, False), (2, True), (0, True), (0, True)])

    def test_wrong_shapes_do_not_leave(self):
        mock = self.sidecar()
        curator = self.curator(mock)
        act = np.ones((4, 8))
        for bad in (dict(act=act), dict(act=act, act_off=[0, 2, 3]), dict(act=act, act_off=[0, 4]),
                    dict(act=act, act_off=[0, 5, 4]), dict(), dict(act=np.ones(4)),
                    dict(act=act[:2], keep=[1, 1]), dict(act=act[:2], text=["a"]),
                    dict(csr=([0, 1, 3], [1, 2], [1, 2])), dict(act=act[:2], recon_max=[1, 2]),
                    dict(act=np.ones((2, 8), np.int32))):
            with self.subTest(bad=bad), self.assertRaises(ValueError):
                curator.submit([1, 2], **bad)
        with self.assertRaises(ValueError):
            curator.feedback(0, [1, 2], [1.0])
        with self.assertRaises(ValueError):
            curator.submit([-1], act=act[:1])
        self.assertEqual(mock.received, [])

    def test_settings_that_cannot_be_are_refused(self):
        for bad in (dict(on_failure="ignore"), dict(on_failure="passthrough"), dict(timeout_s=0),
                    dict(incarnation=1 << 53), dict(server_key="x"),
                    dict(server_key="x" * 40, secret_key="short")):
            with self.subTest(bad=bad), self.assertRaises(ValueError):
                Curator("ipc:///tmp/saerl/saerl.sock", "run", **bad)


class Faults(ClientCase):
    def test_a_lost_reply_is_asked_for_again_under_the_same_id(self):
        mock = self.sidecar()
        curator = self.curator(mock, timeout_s=8)
        batch = curator.fetch(0, 4)
        mock.lose(Kind.FEEDBACK, 2)
        self.assertEqual(curator.feedback(0, batch.sid, [1] * 4).accepted, 4)
        asked = self.requests(mock, Kind.FEEDBACK)
        self.assertEqual(len(asked), 3)
        self.assertEqual(len({request for _, request, _ in asked}), 1)
        self.assertEqual([flags for *_, flags in asked], [0, wire.FLAG_RETRY, wire.FLAG_RETRY])
        self.assertEqual(len(mock.feedback), 4)

    def test_a_late_reply_is_not_taken_for_an_answer(self):
        mock = self.sidecar()
        curator = self.curator(mock)
        curator.fetch(0, 4)
        mock.delay_s = 0.4
        with self.assertRaises(SidecarAway):
            curator.fetch(1, 4, timeout_s=0.2)
        mock.delay_s = 0
        self.assertEqual(curator.fetch(2, 4).seq, 2)
        self.assertEqual(curator.peek(1).tolist(), [plan_sid(12, 1000)])

    def test_a_forgotten_session_is_opened_again_and_the_request_repeated(self):
        mock = self.sidecar()
        curator = self.curator(mock)
        curator.fetch(0, 4)
        mock.forget()
        self.assertEqual(curator.fetch(1, 4).seq, 1)
        self.assertEqual(mock.kinds(), ["HELLO", "FETCH", "FETCH", "HELLO", "FETCH"])
        ids = [request for _, _, request, _ in mock.received]
        self.assertEqual(ids[2], ids[4])
        self.assertEqual(mock.received[4][3], wire.FLAG_RETRY)

    def test_ids_go_on_rising_in_a_session_that_is_come_back_to(self):
        mock = self.sidecar()
        first = self.curator(mock, client="c", incarnation=5)
        first.fetch(0, 4)
        second = self.curator(mock, client="c", incarnation=5)
        second.fetch(1, 4)
        asked = self.requests(mock, Kind.FETCH)
        self.assertEqual(asked[0][0], asked[1][0])
        self.assertGreater(asked[1][1], asked[0][1])

    def test_an_older_incarnation_is_fenced(self):
        mock = self.sidecar()
        old = self.curator(mock, client="c")
        old.fetch(0, 4)
        new = self.curator(mock, client="c")
        self.assertGreater(new.incarnation, old.incarnation)
        new.fetch(1, 4)
        with self.assertRaises(SidecarError) as caught:
            old.fetch(1, 4)
        self.assertEqual(caught.exception.code, "E_FENCED")

    def test_busy_is_waited_for(self):
        mock = self.sidecar()
        curator = self.curator(mock)
        mock.busy(Kind.FETCH, 3)
        self.assertEqual(curator.fetch(0, 4).seq, 0)
        self.assertEqual(len(self.requests(mock, Kind.FETCH)), 4)
        self.assertEqual(len({request for _, request, _ in self.requests(mock, Kind.FETCH)}), 1)

    def test_busy_beyond_the_deadline_is_away(self):
        mock = self.sidecar()
        curator = self.curator(mock, timeout_s=10)
        mock.busy(Kind.FETCH, 1000, 60000)
        with self.assertRaisesRegex(SidecarAway, "E_BUSY"):
            curator.fetch(0, 4)
        self.assertEqual(len(self.requests(mock, Kind.FETCH)), 1)

    def test_a_restart_is_survived_by_every_call(self):
        mock = self.sidecar()
        curator = self.curator(mock, timeout_s=30)
        for seq in range(6):
            batch = curator.fetch(seq, 4)
            mock.restart()
            self.assertEqual(curator.feedback(seq, batch.sid, [1] * 4).accepted, 4)
        self.assertEqual(len(mock.feedback), 24)

    def test_a_restart_in_the_middle_of_a_call_is_survived(self):
        mock = self.sidecar()
        curator = self.curator(mock, timeout_s=30)
        curator.fetch(0, 4)
        mock.delay_s = 30
        stopper = threading.Timer(0.2, lambda: (mock.stop(), setattr(mock, "delay_s", 0), mock.start()))
        stopper.start()
        begin = time.monotonic()
        self.assertEqual(curator.fetch(1, 4).seq, 1)
        # Seen by the broken connection, long before a try's own time is over.
        self.assertLess(time.monotonic() - begin, 7)
        stopper.join()

    def test_nobody_there_is_an_error_that_says_so(self):
        curator = self.curator("ipc://%s/none" % self.dir, timeout_s=0.3)
        with self.assertRaisesRegex(SidecarAway, "none: no answer to HELLO in 0.3 s .nobody listens"):
            curator.fetch(0, 4)

    def test_the_deadline_is_that_of_the_whole_call(self):
        mock = self.sidecar()
        curator = self.curator(mock)
        curator.fetch(0, 4)
        faults = (lambda: mock.lose(Kind.FETCH, 1000), lambda: mock.busy(Kind.FETCH, 1000, 10),
                  lambda: setattr(mock, "delay_s", 5), mock.stop)
        for fault in faults:
            fault()
            begin = time.monotonic()
            with self.assertRaises(SidecarAway):
                curator.fetch(1, 4, timeout_s=0.3)
            self.assertGreaterEqual(time.monotonic() - begin, 0.2)
            self.assertLess(time.monotonic() - begin, 2.3)  # 50 ms is the aim; a busy machine is slower
            mock.losses, mock.busies = {}, {}

    def test_garbage_from_the_other_side_is_no_answer(self):
        context = zmq.Context()
        router = context.socket(zmq.ROUTER)
        router.linger = 0
        router.bind("ipc://%s/evil" % self.dir)
        stop = threading.Event()

        def answer():
            while not stop.is_set():
                if router.poll(20):
                    peer, envelope, *rest = router.recv_multipart()
                    env = wire.Envelope.unpack(envelope)
                    for frames in ([b"x"], [b""], [envelope, b"{}"], [envelope],
                                   wire.encode(env.kind, 0, env.request + 1, 1),
                                   wire.encode(env.kind, 0, env.request, 0, {"session": 1}),
                                   wire.encode(env.kind + 1, 0, env.request, 1, {"session": 1})):
                        router.send_multipart([peer, *frames])

        thread = threading.Thread(target=answer)
        thread.start()
        try:
            with self.assertRaises(SidecarAway):
                self.curator("ipc://%s/evil" % self.dir, timeout_s=0.5).hello()
        finally:
            stop.set()
            thread.join()
            context.destroy(0)


class Submits(ClientCase):
    def test_is_cut_into_whole_samples_with_several_on_the_way(self):
        mock = self.sidecar(d_in=256, credits=16 << 20)
        mock.hold = 3
        curator = self.curator(mock, timeout_s=30)
        rng = np.random.default_rng(0)
        lengths = rng.integers(1, 600, 40)
        lengths[7] = 6000  # alone in its message
        off = np.concatenate([[0], np.cumsum(lengths)])
        act = rng.standard_normal((off[-1], 256)).astype(np.float16)
        bad = [3, 20, 39]
        for i in bad:
            act[off[i]] = np.inf
        keep = np.ones(off[-1], bool)
        done = curator.submit(np.arange(40) + 100, act=act, act_off=off, keep=keep)
        self.assertEqual((done.accepted, done.rejected), (37, 3))
        self.assertEqual(np.flatnonzero(done.reason).tolist(), bad)
        self.assertGreater(mock.in_flight_max, 1)
        self.assertGreater(len(self.requests(mock, Kind.SUBMIT)), 4)
        self.assertEqual(sorted(mock.pool), [100 + i for i in range(40) if i not in bad])

    def test_keeps_to_its_credit(self):
        mock = self.sidecar(d_in=256, credits=5 << 20)
        mock.hold = 8
        curator = self.curator(mock, timeout_s=30)
        act = np.ones((16 * 1024, 256), np.float32)  # 8 messages of 2 MiB
        self.assertEqual(curator.submit(np.arange(16 * 1024), act=act).accepted, 16 * 1024)
        self.assertEqual(mock.in_flight_max, 2)

    def test_a_message_that_was_refused_for_load_goes_again(self):
        mock = self.sidecar(d_in=256, credits=64 << 20)
        mock.busy(Kind.SUBMIT, 5)
        curator = self.curator(mock, timeout_s=30)
        done = curator.submit(np.arange(16 * 1024), act=np.ones((16 * 1024, 256), np.float32))
        self.assertEqual((done.accepted, len(mock.pool)), (16 * 1024, 16 * 1024))

    def test_replies_that_get_lost_do_not_matter(self):
        mock = self.sidecar(d_in=256, credits=64 << 20)
        mock.lose(Kind.SUBMIT, 3)
        curator = self.curator(mock, timeout_s=8)
        done = curator.submit(np.arange(8 * 1024), act=np.ones((8 * 1024, 256), np.float32))
        self.assertEqual((done.accepted, len(mock.pool)), (8 * 1024, 8 * 1024))

    def test_codes_travel_too(self):
        mock = self.sidecar()
        curator = self.curator(mock)
        done = curator.submit([5, 6, 7], csr=([0, 2, 2, 3], [1, 9, 4], [1, 2, 3]),
                              tokens_used=[2, 1, 1], recon_mean=[0, 0, 0], recon_max=[0, 0, 0])
        self.assertEqual(done.reason.tolist(), [0, 2, 0])

    def test_lists_and_bf16_are_taken(self):
        mock = self.sidecar()
        curator = self.curator(mock)
        bits = wire.f32_to_bf16(np.ones((2, 8), np.float32))
        self.assertEqual(curator.submit([1, 2], act=[bits, bits[:1]], keep=[[1, 0], [1]]).accepted, 2)
        self.assertEqual(curator.submit([], act=np.zeros((0, 8))).accepted, 0)


def in_child(function):
    """Run in a forked process; its exit status."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            status = 0 if function() else 2
        finally:
            os._exit(status)
    for _ in range(1500):
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return "timeout"


def fetch_two(curator, queue):
    with curator:
        queue.put((curator.client, [curator.fetch(s, 4).sid.tolist() for s in (0, 1)]))


class Processes(ClientCase):
    def test_a_forked_child_is_a_client_of_its_own(self):
        mock = self.sidecar()
        for given in (None, "mine"):
            curator = self.curator(mock, client=given)
            before = curator.client
            curator.fetch(0, 4)
            self.assertEqual(in_child(lambda: curator.fetch(0, 4).seq == 0 and curator.client != before
                                      and curator.close() is None), 0)
            self.assertEqual(curator.client, before)
            self.assertEqual(curator.fetch(1, 4).seq, 1)

    def test_a_fork_while_another_thread_is_in_a_call_does_not_block(self):
        mock = self.sidecar()
        curator = self.curator(mock)
        curator.fetch(0, 4)
        mock.delay_s = 1
        thread = threading.Thread(target=curator.fetch, args=(1, 4))
        thread.start()
        time.sleep(0.2)
        self.assertEqual(in_child(lambda: curator.fetch(0, 4).seq == 0), 0)
        thread.join()

    def test_it_can_be_pickled_into_a_process(self):
        mock = self.sidecar()
        curator = self.curator(mock, client="mine")
        curator.fetch(0, 4)
        context = multiprocessing.get_context("spawn")
        queue = context.Queue()
        process = context.Process(target=fetch_two, args=(curator, queue))
        process.start()
        client, sids = queue.get(timeout=60)
        process.join(60)
        self.assertNotEqual(client, curator.client)
        self.assertEqual(sids, [curator.fetch(s, 4).sid.tolist() for s in (0, 1)])

    def test_one_that_nobody_closes_does_not_block_the_process(self):
        mock = self.sidecar()
        code = ("import gc, sys, time\n"
                "from saerl import Curator\n"
                "class Holder: pass\n"
                "for i in range(20):\n"
                "    a = Holder()\n"
                "    a.me, a.curator = a, Curator(sys.argv[1], 'run', timeout_s=10)\n"
                "    a.curator.fetch(0, 4)\n"
                "    del a\n"
                "    gc.collect()\n"
                "last = Curator(sys.argv[1], 'run', timeout_s=10)\n"
                "last.fetch(0, 4)\n")
        done = subprocess.run([sys.executable, "-B", "-c", code, mock.endpoint], cwd=PACKAGE, timeout=60,
                              capture_output=True, text=True)
        self.assertEqual((done.returncode, done.stderr), (0, ""))

    def test_threads_share_one(self):
        mock = self.sidecar()
        curator = self.curator(mock, timeout_s=60)
        sids = {seq: curator.fetch(seq, 4).sid for seq in range(8)}
        failed = []

        def work(k):
            try:
                for seq, sid in sids.items():
                    curator.feedback(seq, sid, [1] * 4, rollout=[k] * 4)
                    if not np.array_equal(curator.fetch(seq, 4).sid, sid):
                        failed.append(seq)
            except Exception as error:  # noqa: BLE001
                failed.append(error)

        threads = [threading.Thread(target=work, args=(k,)) for k in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(failed, [])
        self.assertEqual(len(mock.feedback), 6 * 8 * 4)


class Passthrough(ClientCase):
    def through(self, mock, **more):
        return self.curator(mock, **{"on_failure": "passthrough", "spool": str(self.dir / "spool"),
                                     "timeout_s": 0.5, **more})

    def test_goes_on_in_a_seeded_order_and_says_so(self):
        for seed in (0, 1):
            orders = []
            for _ in range(2):
                curator = self.through("ipc://%s/none" % self.dir, dataset_rows=10, local_seed=seed)
                batches = [curator.fetch(seq, 4) for seq in range(5)]
                self.assertTrue(all(b.fallback and b.local and b.feedback_seq == -1 for b in batches))
                orders.append(np.concatenate([b.sid for b in batches]).tolist())
                self.assertEqual(curator.fetch(2, 4).sid.tolist(), batches[2].sid.tolist())
                self.assertEqual([b.epoch for b in batches], [0, 0, 0, 1, 1])
            self.assertEqual(orders[0], orders[1])
            self.assertEqual(sorted(orders[0][:10]), list(range(10)))
            self.assertEqual(sorted(orders[0][10:]), list(range(10)))

    def test_only_the_first_call_waits(self):
        curator = self.through("ipc://%s/none" % self.dir, dataset_rows=10, timeout_s=1.5)
        begin = time.monotonic()
        for seq in range(20):
            curator.fetch(seq, 4)
            curator.feedback(seq, [1], [1.0])
        self.assertLess(time.monotonic() - begin, 15)  # 60 if each of the fetches waited

    def test_local_batches_get_no_feedback_and_keep_their_numbers(self):
        mock = self.sidecar()
        curator = self.through(mock, timeout_s=20)
        first = curator.fetch(0, 4)
        mock.stop()
        curator.timeout_s = 0.5
        local = [curator.fetch(seq, 4) for seq in (1, 2)]
        self.assertEqual(curator.feedback(1, local[0].sid, [1] * 4).local, 4)
        self.assertEqual(curator.feedback(local[1].feedback_seq, local[1].sid, [1] * 4).local, 4)
        self.assertEqual(curator.feedback(0, first.sid, [1] * 4).spooled, 4)
        mock.start()
        curator._breaker_until = time.monotonic()
        curator.timeout_s = 20
        after = curator.fetch(3, 4)
        self.assertFalse(after.local)
        self.assertEqual(after.sid.tolist(), [plan_sid(i, 1000) for i in range(12, 16)])
        self.assertEqual(curator.feedback(2, local[1].sid, [1] * 4).local, 4)
        self.assertEqual(curator.fetch(1, 4).sid.tolist(), local[0].sid.tolist())
        self.assertEqual(sorted({k[1] for k in mock.feedback}), [0])

    def test_a_checkpoint_keeps_what_was_local(self):
        mock = self.sidecar()
        curator = self.through(mock, timeout_s=20)
        curator.fetch(0, 4)
        mock.stop()
        curator.timeout_s = 0.5
        local = [curator.fetch(seq, 4).sid.tolist() for seq in (1, 2)]
        state = curator.local_state()
        mock.start()
        again = self.through(mock, timeout_s=20)
        again.load_local_state(state)
        self.assertEqual(again.fetch(1, 4).sid.tolist(), local[0])
        self.assertFalse(again.fetch(3, 4).local)
        self.assertEqual(again.save("s", consumed_seq=4).next_seq, 4)

    def test_next_batch_takes_the_sidecars_numbers_once_it_is_there(self):
        mock = self.sidecar(rows=50)
        other = self.curator(mock)
        other.fetch(0, 4)
        mock.stop()
        curator = self.through(mock, dataset_rows=50)
        self.assertTrue(curator.next_batch(4).local)
        mock.start()
        curator.timeout_s = 10
        batch = curator.next_batch(4)
        self.assertEqual((batch.seq, batch.local), (1, False))

    def test_errors_that_are_ours_are_still_raised(self):
        curator = self.through(self.sidecar(), timeout_s=10)
        with self.assertRaises(SidecarError):
            curator.fetch(5, 4)

    def test_without_a_size_there_is_no_local_order(self):
        with self.assertRaisesRegex(CuratorError, "dataset_rows"):
            self.through("ipc://%s/none" % self.dir).fetch(0, 4)


class Spools(ClientCase):
    def files(self, end=".feedback"):
        folder = self.dir / "spool"
        return sorted(p for p in folder.iterdir() if p.name.endswith(end))

    def away(self, mock, **more):
        """A curator with a session that ends: batches 0 to 3 are out, the sidecar is down."""
        curator = self.curator(mock, **{"spool": str(self.dir / "spool"), "timeout_s": 0.3, **more})
        curator.timeout_s, wait = 10, curator.timeout_s
        sids = [curator.fetch(seq, 4).sid for seq in range(4)]
        curator.timeout_s = wait
        mock.stop()
        return curator, sids

    def test_feedback_waits_and_goes_out_in_order_once(self):
        mock = self.sidecar()
        curator, sids = self.away(mock)
        for seq in (0, 1, 2):
            for _ in range(2):
                self.assertEqual(curator.feedback(seq, sids[seq], [0.5] * 4).spooled, 4)
        self.assertEqual(len(self.files()), 1)
        mock.start()
        curator.timeout_s = 10
        self.assertEqual(curator.feedback(3, sids[3], [1] * 4).accepted, 4)
        expected = [("run", seq, sid, k) for seq in (0, 1, 2) for k in (0, 1) for sid in sids[seq].tolist()]
        expected += [("run", 3, sid, 0) for sid in sids[3].tolist()]
        self.assertEqual(mock.feedback_order, expected)
        curator.close()
        self.assertEqual(self.files(), [])

    def test_a_record_that_had_been_applied_counts_once(self):
        mock = self.sidecar()
        curator = self.curator(mock, spool=str(self.dir / "spool"))
        sid = curator.fetch(0, 4).sid
        mock.lose(Kind.FEEDBACK, 1000)
        self.assertEqual(curator.feedback(0, sid, [1] * 4, timeout_s=2).spooled, 4)
        self.assertEqual(len(mock.feedback), 4)
        mock.restart()
        mock.losses = {}
        self.assertEqual(curator.feedback(0, sid, [1] * 4).accepted, 4)
        self.assertEqual(len(mock.feedback), 8)

    def test_what_a_killed_process_left_is_sent_by_the_next(self):
        mock = self.sidecar()
        curator, sids = self.away(mock)

        def child():
            curator.feedback(0, sids[0], [1] * 4)
            curator.feedback(1, sids[1], [1] * 4)
            os.kill(os.getpid(), signal.SIGKILL)

        self.assertEqual(in_child(child), -signal.SIGKILL)
        self.assertEqual(len(self.files()), 1)
        mock.start()
        self.curator(mock, spool=str(self.dir / "spool")).hello()
        self.assertEqual([k[1] for k in mock.feedback_order], [0] * 4 + [1] * 4)
        self.assertEqual(self.files(), [])

    def test_the_file_of_a_living_process_is_left_alone(self):
        mock = self.sidecar()
        curator, sids = self.away(mock)
        curator.feedback(0, sids[0], [1] * 4)
        mock.start()
        self.curator(mock, spool=str(self.dir / "spool")).hello()
        self.assertEqual(len(mock.feedback), 0)
        self.assertEqual(len(self.files()), 1)

    def test_another_runs_file_is_left_alone(self):
        mock = self.sidecar()
        curator, sids = self.away(mock)
        curator.feedback(0, sids[0], [1] * 4)
        curator.close()
        mock.start()
        other = Curator(mock.endpoint, "other", spool=str(self.dir / "spool"), timeout_s=10)
        self.addCleanup(other.close)
        other.hello()
        self.assertEqual(len(self.files()), 1)

    def test_a_torn_end_is_cut_and_the_rest_sent(self):
        mock = self.sidecar()
        curator, sids = self.away(mock)
        curator.feedback(0, sids[0], [1] * 4)
        one = curator._spool.size
        curator.feedback(1, sids[1], [1] * 4)
        curator.close()
        (path,) = self.files()
        whole = path.read_bytes()
        mock.start()
        for end in range(one, len(whole), 7):
            mock.feedback.clear()
            path.write_bytes(whole[:end])
            self.curator(mock, spool=str(self.dir / "spool")).hello()
            self.assertEqual({k[1] for k in mock.feedback}, {0})
            self.assertEqual(self.files(), [])

    def test_damage_is_set_aside_never_sent_or_lost(self):
        mock = self.sidecar()
        curator, sids = self.away(mock)
        for seq in (0, 1, 2):
            curator.feedback(seq, sids[seq], [1] * 4)
        one = curator._spool.size // 3
        curator.close()
        (path,) = self.files()
        raw = bytearray(path.read_bytes())
        raw[one + 40] ^= 1
        path.write_bytes(raw)
        mock.start()
        self.curator(mock, spool=str(self.dir / "spool")).hello()
        self.assertEqual({k[1] for k in mock.feedback}, {0})
        (damaged,) = self.files(".damaged")
        self.assertEqual(damaged.read_bytes(), bytes(raw[one:]))

    def test_what_the_sidecar_refuses_is_kept_and_does_not_block_the_rest(self):
        mock = self.sidecar()
        curator, sids = self.away(mock)
        curator.feedback(77, sids[0], [1] * 4)
        curator.feedback(1, sids[1], [1] * 4)
        mock.start()
        curator.timeout_s = 10
        curator.hello()
        self.assertEqual({k[1] for k in mock.feedback}, {1})
        self.assertEqual(len(self.files(".refused")), 1)
        curator.hello()
        self.assertEqual(len(self.requests(mock, Kind.FEEDBACK)), 2)

    def test_is_bounded_and_says_so_before_anything_is_lost(self):
        mock = self.sidecar()
        curator, sids = self.away(mock, spool_bytes_max=2000)
        kept = 0
        with self.assertRaisesRegex(SpoolFull, "spool_bytes_max"):
            for _ in range(100):
                kept += curator.feedback(0, sids[0], [1] * 4, timeout_s=0.05).spooled
        self.assertGreater(kept, 4)
        mock.start()
        curator.timeout_s = 10
        # What was refused was not numbered either: given again, it is the next rollout.
        self.assertEqual(curator.feedback(0, sids[0], [1] * 4).accepted, 4)
        self.assertEqual(len(mock.feedback), kept + 4)
        self.assertEqual(max(k[3] for k in mock.feedback), kept // 4)

    def test_a_restore_sets_aside_what_belongs_to_the_branch_that_is_left(self):
        mock = self.sidecar()
        setup = self.curator(mock)
        for seq in range(2):
            setup.fetch(seq, 4)
        setup.save("s")
        curator, sids = self.away(mock)
        for seq in (1, 3):
            curator.feedback(seq, sids[seq], [1] * 4)
        curator.close()
        mock.start()
        after = self.curator(mock, spool=str(self.dir / "spool"))
        self.assertEqual(after.restore("s").next_seq, 2)
        for seq in range(2, 5):
            after.fetch(seq, 4)
        self.assertEqual({k[1] for k in mock.feedback}, {1})
        self.assertEqual(len(self.files(".abandoned")), 1)
        self.assertEqual(self.files(), [])


class Keys(ClientCase):
    def curve(self):
        server, good, bad = (zmq.curve_keypair() for _ in range(3))
        mock = MockSidecar("tcp://127.0.0.1:*", keys=server, allow={good[0]})
        self.addCleanup(mock.stop)
        return mock, server[0].decode(), good[1].decode(), bad[1].decode()

    def test_a_key_on_the_list_gets_in(self):
        mock, server, good, _ = self.curve()
        self.assertEqual(self.curator(mock, server_key=server, secret_key=good).fetch(0, 4).seq, 0)
        path = self.dir / "trainer.secret"
        path.write_text(good + "\n")
        path.chmod(0o600)
        curator = self.curator(mock, server_key=server, secret_key=str(path))
        with pickle.loads(pickle.dumps(curator)) as again:
            self.assertEqual(again.fetch(1, 4).seq, 1)
        self.assertNotIn(good.encode(), pickle.dumps(curator))
        path.chmod(0o644)
        with self.assertRaisesRegex(ValueError, "chmod 600"):
            self.curator(mock, server_key=server, secret_key=str(path))

    def test_another_key_is_told_at_once(self):
        mock, server, _, bad = self.curve()
        begin = time.monotonic()
        for on_failure in ("error", "passthrough"):
            curator = self.curator(mock, server_key=server, secret_key=bad, timeout_s=60,
                                   on_failure=on_failure, spool=str(self.dir / "spool"), dataset_rows=9)
            with self.assertRaisesRegex(KeyNotAllowed, "key not allowed"):
                curator.fetch(0, 4)
        self.assertLess(time.monotonic() - begin, 30)

    def test_the_wrong_servers_key_and_none_do_not_get_in(self):
        mock, server, good, _ = self.curve()
        other = zmq.curve_keypair()[0].decode()
        for keys in (dict(server_key=other, secret_key=good), {}):
            with self.assertRaises(SidecarAway) as caught:
                self.curator(mock, timeout_s=4, **keys).hello()
            self.assertRegex(str(caught.exception), "handshake|closed")


if __name__ == "__main__":
    unittest.main()
