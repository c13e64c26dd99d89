"""saerl/wire.py: frames to messages and back, and what is refused."""

import json
import struct
import unittest

from support import need

need("numpy")

import numpy as np  # noqa: E402

from saerl import wire  # noqa: E402
from saerl.prompts import canonical_prompt  # noqa: E402
from saerl.wire import Kind, WireError  # noqa: E402


def raw(frames):
    return [bytes(f) for f in frames]


class Envelopes(unittest.TestCase):
    def test_has_the_layout_of_the_protocol(self):
        (envelope, *_) = raw(wire.encode(Kind.FETCH, 0x1122334455, 7, wire.FLAG_RETRY))
        self.assertEqual(envelope, b"SRLW\x01\x00\x14\x00" + struct.pack("<QQII", 0x1122334455, 7, 0, 4))
        self.assertEqual(len(envelope), 32)

    def test_refuses_another_length_magic_or_major(self):
        good = raw(wire.encode(Kind.PING, 0, 1))
        for bad in (good[0][:31], good[0] + b"\0", b"SRLX" + good[0][4:], b"", b"SRLW\x02" + good[0][5:]):
            with self.subTest(bad=bad), self.assertRaises(WireError):
                wire.decode([bad, good[1]])
        newer = b"SRLW\x01\x09" + good[0][6:]  # a minor only adds
        self.assertEqual(wire.decode([newer, good[1]]).envelope.minor, 9)


class Tensors(unittest.TestCase):
    def test_every_dtype_comes_back(self):
        for name, kind in wire.DTYPES.items():
            with self.subTest(name):
                for shape in ((), (0,), (3,), (2, 0), (1, 2, 3, 2)):
                    array = (np.arange(np.prod(shape, dtype=int)) + 1).reshape(shape).astype(kind)
                    frames = raw(wire.encode(Kind.SUBMIT, 1, 2, 0, {"k": 1}, {"x": array}))
                    self.assertEqual(json.loads(frames[1])["tensors"],
                                     [{"name": "x", "dtype": name, "shape": list(shape)}])
                    got = wire.decode(frames)
                    self.assertEqual(got.header, {"k": 1})
                    np.testing.assert_array_equal(got.tensors["x"], array)
                    self.assertEqual(got.tensors["x"].dtype, array.dtype)

    def test_are_little_endian_and_in_c_order(self):
        array = np.arange(6, dtype=">i4").reshape(2, 3).T
        frames = raw(wire.encode(Kind.SUBMIT, 1, 2, 0, {}, {"x": wire.wire_array(array)}))
        self.assertEqual(frames[2], struct.pack("<6i", 0, 3, 1, 4, 2, 5))

    def test_become_what_travels(self):
        self.assertEqual(wire.wire_array([1.5, 2]).dtype, np.float32)
        self.assertEqual(wire.wire_array([True, False]).dtype, np.uint8)
        self.assertEqual(wire.wire_array([2**64 - 1], "u64")[0], 2**64 - 1)
        self.assertEqual(wire.wire_array([], "u64").dtype, np.uint64)
        self.assertEqual(wire.wire_array([1, 0], "f32").dtype, np.float32)

    def test_numbers_that_do_not_fit_are_refused_not_wrapped(self):
        for value, dtype in (([-1], "u64"), ([2**31], "i32"), ([0.5], "u64"), ([np.nan], "i64"),
                             (["a"], "u64"), (["a"], "f32"), ([300], "u8"), ([-1, 2**63], "u64")):
            with self.subTest(value=value, dtype=dtype), self.assertRaises(WireError):
                wire.wire_array(value, dtype)
        with self.assertRaises(WireError):
            wire.wire_array([1j])

    def test_bf16_rounds_to_nearest_even(self):
        values = np.array([1, -2.5, 1 + 2**-8, 1 + 3 * 2**-8, np.inf, 0, 3.4e38], np.float32)
        bits = wire.f32_to_bf16(values)
        back = wire.bf16_to_f32(bits)
        np.testing.assert_array_equal(back[:4], np.array([1, -2.5, 1, 1 + 2**-6], np.float32))
        self.assertTrue(np.isinf(back[4]) and back[5] == 0 and np.isinf(back[6]))
        self.assertTrue(np.isnan(wire.bf16_to_f32(wire.f32_to_bf16(np.array([np.nan], np.float32))))[0])
        self.assertEqual(wire.wire_dtype(bits), "bf16")

    def test_limits_are_kept(self):
        x = np.zeros(1, np.float32)
        with self.assertRaisesRegex(WireError, "at most 32"):
            wire.encode(Kind.SUBMIT, 1, 1, 0, {}, {"t%d" % i: x for i in range(33)})
        with self.assertRaisesRegex(WireError, "rank 5"):
            wire.encode(Kind.SUBMIT, 1, 1, 0, {}, {"x": np.zeros((1,) * 5, np.float32)})
        with self.assertRaisesRegex(WireError, "in parts"):
            wire.body_frames({}, {"x": np.zeros(5, np.float32)}, 16)
        with self.assertRaisesRegex(WireError, "at most 1048576"):
            wire.encode(Kind.SUBMIT, 1, 1, 0, {"x": "y" * (1 << 20)})


class Headers(unittest.TestCase):
    def frames(self, text, *tensors):
        return [wire.Envelope(20, 1, 1, len(tensors), 1).pack(), text, *tensors]

    def test_what_is_no_header_is_refused(self):
        deep = b'{"tensors":[],"x":' + b"[" * 16 + b"]" * 16 + b"}"
        for text in (b"", b"[]", b"{", b'{"tensors":[]}x', b'{"a":1}', b'{"tensors":{}}',
                     b'{"tensors":[],"x":NaN}', b'{"tensors":[],"x":-Infinity}',
                     b'{"tensors":[],"tensors":[]}', b'{"tensors":[],"x":"\xff"}', deep,
                     b"[" * 200000, b'{"tensors":[{}]}'):
            with self.subTest(text=text[:40]), self.assertRaises(WireError):
                wire.decode(self.frames(text))
        wire.decode(self.frames(b'{"tensors":[],"x":' + b"[" * 15 + b"]" * 15 + b"}"))

    def test_nan_is_not_sent(self):
        with self.assertRaises(WireError):
            wire.encode(Kind.CURATE, 1, 1, 0, {"set": {"a": float("nan")}})

    def test_tensors_are_exactly_what_the_header_says(self):
        def listed(**entry):
            base = {"name": "x", "dtype": "f32", "shape": [2]}
            return json.dumps({"tensors": [{**base, **entry}]}).encode()

        eight = bytes(8)
        self.assertEqual(wire.decode(self.frames(listed(), eight)).tensors["x"].tolist(), [0, 0])
        for entry in ({"shape": [3]}, {"shape": [-2, -1]}, {"shape": [True, 2]}, {"shape": 2},
                      {"shape": [1] * 5}, {"dtype": "f64"}, {"dtype": 1}, {"name": 3},
                      {"shape": [2**62, 2**62]}, {"shape": [2.0]}):
            with self.subTest(entry=entry), self.assertRaises(WireError):
                wire.decode(self.frames(listed(**entry), eight))
        with self.assertRaisesRegex(WireError, "envelope says"):
            wire.decode([wire.Envelope(20, 1, 1, 2, 1).pack(), listed(), eight])
        twice = json.dumps({"tensors": [{"name": "x", "dtype": "f32", "shape": [2]}] * 2}).encode()
        with self.assertRaisesRegex(WireError, "twice"):
            wire.decode(self.frames(twice, eight, eight))

    def test_an_empty_delimiter_is_skipped(self):
        frames = raw(wire.encode(Kind.PING, 0, 5, wire.FLAG_REPLY, {"state": "ready"}))
        self.assertEqual(wire.decode([b"", *frames]).envelope.request, 5)

    def test_decode_raises_nothing_but_wire_errors(self):
        rng = np.random.default_rng(1)
        frames = raw(wire.encode(Kind.FETCH, 9, 9, 1, {"seq": 1, "s": "é"},
                                 {"sid": np.arange(3, dtype=np.uint64)}))
        parsed = 0
        for seed in range(3000):
            broken = [bytearray(f) for f in frames]
            frame = broken[rng.integers(len(broken))]
            for _ in range(rng.integers(1, 4)):
                frame[rng.integers(len(frame))] = rng.integers(256)
            try:
                wire.decode([bytes(f) for f in broken])
                parsed += 1
            except WireError:
                pass
            except Exception as error:  # noqa: BLE001
                self.fail("seed %d: %r" % (seed, error))
        self.assertTrue(0 < parsed < 3000)


class Prompts(unittest.TestCase):
    def test_canonical_as_the_program_has_it(self):
        self.assertEqual(canonical_prompt("What is 2+2?"), b"What is 2+2?")
        chat = b"user\x1fWhat is 2+2?\x1eassistant\x1f\x1e"
        self.assertEqual(canonical_prompt([{"role": "user", "content": "What is 2+2?"},
                                           {"role": "assistant", "content": None}]), chat)
        self.assertEqual(canonical_prompt([
            {"role": "user", "content": [{"type": "text", "text": "What is "}, "2+2?"]},
            {"role": "assistant"}]), chat)
        self.assertEqual(canonical_prompt([{"role": "u", "content": [{"type": "image", "n": 1}]}]),
                         b'u\x1f{"type":"image","n":1}\x1e')
        for bad in ([1], [{"role": "u", "content": 3}]):
            with self.assertRaises(TypeError):
                canonical_prompt(bad)
        with self.assertRaisesRegex(TypeError, "prompt: int, expected a string or a list"):
            canonical_prompt(3)
        many = np.array([{"role": "u", "content": "x"}], dtype=object)
        self.assertEqual(canonical_prompt(many), b"u\x1fx\x1e")


if __name__ == "__main__":
    unittest.main()
