"""`saerl ctl` against a peer that answers as the test wants it."""

import json
import re
import time
import unittest

from protocol_peer import BYE, HELLO, PEEK, PING, SAVE, SHUTDOWN, STATS, Fault, ProtocolPeer
from saerl_case import SaerlCase

STATE = {"state": "ready", "uptime_s": 12.34}
COUNTERS = {
    "runs": ["saerl-ctl", "grpo"],
    "sessions": 2,
    "model": None,
    "requests": {"fetch": 7, "feedback_items": 80},
    "posterior": {"pass_rate": 0.5, "by": {"cluster": [1, 2]}},
}
SAVED = {"tag": "a b", "next_seq": 9, "bytes": 4096, "hash": "00ff"}


class Ctl(SaerlCase):
    def serve(self, answers):
        self.endpoint = "ipc://%s/socket" % self.dir
        peer = ProtocolPeer(self.endpoint, answers)
        self.addCleanup(peer.close)
        return peer

    def ctl(self, *args, code=0):
        return self.saerl("ctl", self.endpoint, *args, "--timeout", "20", code=code)

    def test_ping_tells_state_uptime_and_round_trip(self):
        peer = self.serve({PING: STATE})
        lines = self.ctl("ping").stdout.splitlines()
        self.assertEqual(lines[:2], ["state       ready", "uptime      12.3 s"])
        self.assertRegex(lines[2], r"^round trip  \d+\.\d\d ms$")
        self.assertEqual(peer.kinds(), [PING, HELLO, PING, PING, BYE])
        self.assertEqual(peer.asked[1].header["run"], "saerl-ctl")
        self.assertRegex(peer.asked[1].header["client"], r"^ctl-\d+$")
        self.assertTrue(0 < peer.asked[1].header["incarnation"] < 2**53)

    def test_ping_is_answered_while_the_sidecar_starts(self):
        busy = Fault("E_BUSY", "starting", 50)
        peer = self.serve({PING: {**STATE, "state": "starting"}, HELLO: busy, "free": [PING]})
        told = json.loads(self.ctl("ping", "--json").stdout)
        self.assertEqual(told["state"], "starting")
        self.assertGreater(told["round_trip_ms"], 0)
        self.assertNotIn("tensors", told)
        self.assertEqual(peer.kinds(), [PING, PING])

    def test_stats_are_grouped_and_aligned(self):
        self.serve({STATS: COUNTERS})
        self.assertEqual(
            self.ctl("stats").stdout,
            'runs      ["saerl-ctl","grpo"]\n'
            "sessions  2\n"
            "model     -\n"
            "\nrequests\n"
            "  fetch           7\n"
            "  feedback_items  80\n"
            "\nposterior\n"
            "  pass_rate  0.5\n"
            "\nposterior.by\n"
            "  cluster  [1,2]\n",
        )
        self.assertEqual(json.loads(self.ctl("stats", "--json").stdout), COUNTERS)

    def test_what_a_peer_says_cannot_move_the_cursor(self):
        self.serve({STATS: {"a\x1b[2Jb": "\x1b]0;x\x07", "c\n": {"\u202e": "\r"}}})
        out = self.ctl("stats").stdout
        self.assertFalse(any(c in out for c in "\x1b\x07\r\u202e"), out)

    def test_peek_is_of_the_only_run(self):
        peer = self.serve({STATS: COUNTERS, PEEK: ({}, {"sid": ("u64", [3, 2**64 - 1])})})
        self.assertEqual(self.ctl("peek", "-k", "2").stdout, "3\n18446744073709551615\n")
        asked = [a for a in peer.asked if a.kind == PEEK]
        self.assertEqual((asked[0].run, asked[0].header["k"]), ("grpo", 2))
        told = json.loads(self.ctl("peek", "--json", "--run", "other").stdout)
        self.assertEqual(told, {"sid": [3, 2**64 - 1]})
        self.assertEqual([a.run for a in peer.asked if a.kind == PEEK], ["grpo", "other"])
        self.assertEqual(peer.kinds()[-1], BYE)

    def test_among_several_runs_one_must_be_named(self):
        peer = self.serve({STATS: {"runs": ["a", "saerl-ctl", "b"]}, SAVE: SAVED})
        done = self.ctl("save", "--tag", "x", code=2)
        self.assertIn("2 runs are there, --run says which: a, b", done.stderr)
        self.assertNotIn(SAVE, peer.kinds())

    def test_without_a_run_there_is_nothing_to_save(self):
        self.serve({STATS: {"runs": ["saerl-ctl"]}})
        self.assertIn("no run is there yet", self.ctl("save", "--tag", "x", code=1).stderr)

    def test_a_misspelt_run_is_not_saved(self):
        peer = self.serve({STATS: COUNTERS, SAVE: SAVED})
        done = self.ctl("save", "--tag", "x", "--run", "gpro", code=1)
        self.assertIn("no run 'gpro' is there, found: grpo", done.stderr)
        self.assertNotIn(SAVE, peer.kinds())
        self.ctl("save", "--tag", "x", "--run", "grpo")
        self.assertIn(SAVE, peer.kinds())

    def test_save_tells_what_was_written(self):
        peer = self.serve({STATS: COUNTERS, SAVE: SAVED})
        self.assertEqual(
            self.ctl("save", "--tag", 'a "b"').stdout,
            "tag       a b\nnext_seq  9\nbytes     4096\nhash      00ff\n",
        )
        asked = [a for a in peer.asked if a.kind == SAVE]
        self.assertEqual((asked[0].run, asked[0].header["tag"]), ("grpo", 'a "b"'))

    def test_drain_waits_for_the_reply_and_says_no_bye(self):
        def slowly(asked):
            time.sleep(0.5)
            return {}

        peer = self.serve({SHUTDOWN: slowly})
        self.ctl("drain")
        self.ctl("shutdown")
        self.assertEqual(peer.kinds(), [HELLO, SHUTDOWN, HELLO, SHUTDOWN])
        self.assertEqual([a.header.get("drain_ms") for a in peer.asked[1::2]], [10000, 0])

    def test_an_error_reply_is_exit_code_1_with_its_code(self):
        self.serve({STATS: COUNTERS, SAVE: Fault("E_IO", "disk full", 0)})
        done = self.saerl("ctl", self.endpoint, "save", "--tag", "x", "--timeout", "2", code=1)
        self.assertIn("%s: SAVE: E_IO: disk full" % self.endpoint, done.stderr)

    def test_nobody_there_is_exit_code_75(self):
        endpoint = "ipc://%s/nobody" % self.dir
        done = self.saerl("ctl", endpoint, "ping", "--timeout", "0.3", code=75)
        self.assertIn("%s: nobody answers within 0.3 s" % endpoint, done.stderr)

    def test_a_peer_that_never_answers_is_exit_code_75(self):
        self.serve({PING: lambda asked: None, "free": [PING]})
        self.saerl("ctl", self.endpoint, "ping", "--timeout", "0.5", code=75)

    def test_the_timeout_is_of_all_that_is_asked(self):
        asked = []

        def late_then_lost(_):
            asked.append(time.sleep(0.2))
            return STATE if len(asked) == 1 else None

        self.serve({PING: late_then_lost, "free": [PING]})
        # The first try waits an eighth of it, long enough on a busy machine for an answer after 0.2 s.
        done = self.saerl("ctl", self.endpoint, "ping", "--timeout", "8", code=75)
        within = float(re.search(r"within ([0-9.]+) s", done.stderr)[1])
        self.assertLess(within, 7.9)
        self.assertGreater(len(asked), 1)

    def test_wrong_usage_is_exit_code_2(self):
        for args, words in [
            (["pong"], "'pong', expected ping"),
            (["save"], "save needs --tag"),
            (["ping", "--run", "x"], "--run is for peek and save"),
            (["ping", "--timeout", "0"], "--timeout"),
            (["ping", "--key", "x"], "--server-key is missing"),
            (["ping", "--server-key", "x"], "--key is missing"),
            ([], "an argument is missing"),
        ]:
            done = self.saerl("ctl", "ipc:///nowhere", *args, code=2)
            self.assertIn(words, done.stderr)
        self.assertIn("not an endpoint", self.saerl("ctl", "x", "ping", code=2).stderr)


if __name__ == "__main__":
    unittest.main()
