"""The client that docs/protocol.md prints works, lost replies and a restarted sidecar included."""

import re
import sys
import unittest

import zmq_sockets
from protocol_peer import FETCH, HELLO, Fault, ProtocolPeer
from saerl_case import SOURCE, SaerlCase

TEXT = (SOURCE / "docs" / "protocol.md").read_text()
CLIENT, USE = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
FEEDBACK = 30


class ProtocolDoc(SaerlCase):
    def client(self, answers):
        endpoint = "ipc://%s/socket" % self.dir
        peer = ProtocolPeer(endpoint, answers)
        self.addCleanup(peer.close)
        names = {}
        exec(CLIENT, names)
        return peer, names, endpoint

    def setUp(self):
        super().setUp()
        sys.modules["zmq"] = zmq_sockets
        self.addCleanup(sys.modules.pop, "zmq")

    def test_the_printed_use_runs(self):
        batch = ({"seq": 0}, {"sid": ("u64", [5, 2**64 - 1]), "difficulty": ("f32", [0.5, 0.25])})
        peer, names, endpoint = self.client({FETCH: batch, FEEDBACK: {"accepted": 2}})
        exec(USE.replace("ipc:///tmp/saerl/saerl.sock", endpoint), names)
        self.assertEqual(names["batch"], {"sid": [5, 2**64 - 1], "difficulty": [0.5, 0.25]})
        self.assertEqual(peer.kinds(), [HELLO, FETCH, FEEDBACK])
        told = {t["name"]: (t["dtype"], t["shape"]) for t in peer.asked[2].header["tensors"]}
        self.assertEqual(told, {"sid": ("u64", [2]), "reward": ("f32", [2]), "rollout": ("i32", [2])})

    def test_a_lost_reply_and_a_lost_session_are_repeated(self):
        lost = [None, Fault("E_NO_SESSION", "restarted", 0), Fault("E_BUSY", "wait", 20), {"seq": 0}]
        peer, names, endpoint = self.client({FETCH: lambda asked: lost.pop(0)})
        client = names["Client"](endpoint, "run", 8)
        self.assertEqual(client.call(FETCH, {"seq": 0, "n": 1}), ({"seq": 0, "tensors": []}, {}))
        self.assertEqual(peer.kinds(), [HELLO, FETCH, FETCH, HELLO, FETCH, FETCH])
        fetches = [a for a in peer.asked if a.kind == FETCH]
        self.assertEqual(len({a.request for a in fetches}), 1)
        self.assertEqual([a.flags for a in fetches], [0, 4, 4, 4])

    def test_a_final_error_is_raised(self):
        peer, names, endpoint = self.client({FETCH: Fault("E_EXHAUSTED", "the end", 0)})
        with self.assertRaisesRegex(RuntimeError, "E_EXHAUSTED: the end"):
            names["Client"](endpoint, "run").call(FETCH, {"seq": 0, "n": 1})


if __name__ == "__main__":
    unittest.main()
