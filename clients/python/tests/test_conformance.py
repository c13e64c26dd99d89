"""The tests' sidecar and the program say the same: one script of calls, the outcomes side by side.

Without SAERL_PROGRAM the script runs against the tests' sidecar alone.
"""

import logging
import unittest

from support import FolderCase, need, program

need("numpy", "zmq")

import numpy as np  # noqa: E402
from mock_sidecar import MockSidecar  # noqa: E402
from real_sidecar import RealSidecar  # noqa: E402

from saerl import Curator, SidecarError, wire  # noqa: E402

logging.disable(logging.CRITICAL)

ROWS = 50


def script(sidecar):
    """(what, outcome) of each call: counts and codes, not the plan's own numbers."""
    curator = Curator(sidecar.endpoint, "run", client="c", timeout_s=20)
    said = []

    def call(what, function, *keep):
        try:
            result = function()
            outcome = tuple(getattr(result, k) for k in keep) if keep else result
        except SidecarError as error:
            outcome = error.code, error.retryable
        said.append((what, outcome))

    def fetch(seq, n):
        batch = curator.fetch(seq, n)
        kinds = batch.sid.dtype, batch.difficulty.dtype, batch.cluster.dtype
        return batch.seq, len(batch.sid), batch.epoch, batch.exhausted, batch.fallback, kinds

    call("ping without a session", curator.ping, "state")
    call("hello", lambda: (curator.hello().next_seq, curator.info.dataset["rows"], curator.info.sae["d_in"],
                           curator.info.frame_bytes_max, curator.info.state))
    call("the same session", lambda: curator.info.session == curator.hello().session)
    call("attach", lambda: curator.attach(prompts=["row 3", "row 3", "zz", [{"role": "u", "content": "y"}]])[:3])
    call("attach rows", lambda: curator.attach(prompts=["row 7", "", "row 0"]).row.tolist())
    call("attach keys", lambda: curator.attach(keys=[1, 2])[:3])
    call("attach none", lambda: curator.attach(prompts=[])[:3])
    call("peek", lambda: len(curator.peek(5)))
    call("peek is what comes", lambda: curator.peek(4).tolist() == curator.fetch(0, 4).sid.tolist())
    call("fetch", lambda: fetch(1, 6))
    call("fetch again", lambda: fetch(1, 6))
    call("fetch with another n", lambda: fetch(1, 7))
    call("fetch with a gap", lambda: fetch(5, 4))
    call("fetch none", lambda: fetch(2, 0))
    sid = curator.fetch(1, 6).sid
    call("feedback", lambda: curator.feedback(1, [*sid, 9999], [1, 0, np.nan, 1, 1, np.inf, 1],
                                              length=[3] * 7, answer=[1] * 7, policy_version=2))
    call("feedback again", lambda: curator.feedback(1, sid, [1] * 6, rollout=[0] * 6))
    call("feedback final", lambda: curator.feedback(1, sid, [1] * 6, final=True))
    call("feedback after it", lambda: curator.feedback(1, sid, [1] * 6, rollout=[2**31 - 1] * 6))
    call("feedback of no batch", lambda: curator.feedback(7, sid, [1] * 6))
    call("feedback of nobody", lambda: curator.feedback(1, [], []))
    act = np.random.default_rng(1).standard_normal((12, 8)).astype(np.float32)
    act[4] = np.nan
    off = [0, 4, 5, 5, 12]
    call("submit", lambda: (curator.submit([1000, 1001, 1002, 1003], act=act, act_off=off).reason.tolist()))
    call("submit pooled", lambda: curator.submit([2000, 2001], act=act[:2])[:2])
    call("submit again", lambda: curator.submit([2000, 2001], act=act[:2])[:2])
    call("submit too wide", lambda: curator.submit([1], act=np.ones((1, 9)))[:2])
    for name, values in (("f32", act), ("f16", act.astype(np.float16)), ("bf16", wire.f32_to_bf16(act))):
        call("score " + name, lambda values=values: (
            curator.score([1, 2, 3, 4], act=values, act_off=off).keep.tolist(),
            curator.score([1, 2, 3, 4], act=values, act_off=off).reason.tolist()))
    call("score codes", lambda: curator.score([1, 2], csr=([0, 2, 3], [1, 5, 2], [1, 2, 3])).keep.tolist())
    call("score's model", lambda: curator.score([1], act=act[:2], act_off=[0, 2]).model)
    call("curate", lambda: sorted(curator.curate([1, 2, 3, 4], batch_size=1, act=act, act_off=off).order))
    call("curate's batches", lambda: [len(b) for b in curator.curate(
        [1, 2, 3, 4], batch_size=2, act=act, act_off=off, set={"batches.order": "random"}).batches()])
    call("stats", lambda: isinstance(curator.stats(), dict))
    state = curator.save("a", inline=True).state
    call("save", lambda: curator.save("a"), "tag", "next_seq", "state")
    after = [curator.fetch(seq, 4).sid.tolist() for seq in (2, 3)]
    call("feedback to be forgotten", lambda: curator.feedback(3, after[1], [1] * 4))
    call("restore", lambda: curator.restore("a"))
    call("the batches come again", lambda: [curator.fetch(seq, 4).sid.tolist() for seq in (2, 3)] == after)
    call("and so may feedback", lambda: curator.feedback(3, after[1], [1] * 4, rollout=[0] * 4))
    call("restore nothing", lambda: curator.restore("zz"))
    call("restore bytes", lambda: curator.restore(state=state))
    call("restore garbage", lambda: curator.restore(state=b"abc"))
    call("retire", lambda: curator.save("b", consumed_seq=1), "next_seq")
    call("fetch what is retired", lambda: fetch(0, 4))
    call("another run begins at 0", lambda: Curator(sidecar.endpoint, "other", timeout_s=20).hello().next_seq)
    again = Curator(sidecar.endpoint, "run", client="c", timeout_s=20)
    call("a new incarnation", lambda: len(again.fetch(1, 6).sid))
    call("the old one", lambda: fetch(1, 6))
    sidecar.restart()
    call("after a restart", lambda: again.fetch(1, 6).sid.tolist() == sid.tolist())
    call("and on", lambda: again.fetch(2, 4).sid.tolist() == after[0])
    call("feedback is still there", lambda: again.feedback(1, sid, [1] * 6, rollout=[0] * 6))
    for what in (again, curator):
        what.close()
    return said


class Conformance(FolderCase):
    def test_both_say_the_same(self):
        mock = MockSidecar("ipc://%s/mock" % self.dir, rows=ROWS)
        self.addCleanup(mock.stop)
        expected = script(mock)
        # A script in which everything is refused would compare well, too.
        self.assertLess(sum(str(o).startswith("('E_") for _, o in expected), len(expected) / 3)
        if not program():
            return
        real = RealSidecar(program(), self.dir, rows=ROWS)
        self.addCleanup(real.stop)
        got = script(real)
        self.assertEqual(len(got), len(expected))
        for (what, mine), (_, its) in zip(expected, got):
            with self.subTest(what):
                self.assertEqual(its, mine)


if __name__ == "__main__":
    unittest.main()
