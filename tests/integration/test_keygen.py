"""`saerl keygen`: files, modes and what it says."""

import json
import os
import re
import stat
import unittest

from saerl_case import SaerlCase

KEY = re.compile(r"[0-9a-zA-Z.:+=^!/*?&<>()\[\]{}@%$#-]{40}\n")


class Keygen(SaerlCase):
    def mode(self, name):
        return stat.S_IMODE(os.stat(self.dir / name).st_mode)

    def test_writes_two_files(self):
        before = os.umask(0o022)
        try:
            said = self.saerl("keygen", "trainer").stdout
        finally:
            os.umask(before)
        self.assertEqual(sorted(os.listdir(self.dir)), ["trainer.public", "trainer.secret"])
        self.assertEqual(self.mode("trainer.secret"), 0o600)
        self.assertEqual(self.mode("trainer.public"), 0o644)
        public, secret = ((self.dir / ("trainer." + s)).read_text() for s in ("public", "secret"))
        self.assertRegex(public, KEY)
        self.assertRegex(secret, KEY)
        self.assertNotEqual(public, secret)
        self.assertIn('allow: ["%s"]' % public.strip(), said)
        self.assertIn('secret_key: "trainer.secret"', said)
        self.assertNotIn(secret.strip(), said)

    def test_json(self):
        told = json.loads(self.saerl("keygen", "a b", "--json").stdout)
        self.assertEqual(
            told,
            {
                "public_key": (self.dir / "a b.public").read_text().strip(),
                "public_file": "a b.public",
                "secret_file": "a b.secret",
            },
        )

    def test_secret_is_closed_whatever_the_umask(self):
        before = os.umask(0)
        try:
            self.saerl("keygen", "open")
        finally:
            os.umask(before)
        self.assertEqual(self.mode("open.secret"), 0o600)
        self.assertEqual(self.mode("open.public"), 0o644)

    def test_never_overwrites(self):
        self.saerl("keygen", "once")
        before = {f: (self.dir / f).read_bytes() for f in os.listdir(self.dir)}
        self.refuses(["once.", "never overwritten"], "keygen", "once", code=5)
        os.remove(self.dir / "once.public")
        self.refuses("once.secret", "keygen", "once", code=5)
        self.assertEqual(os.listdir(self.dir), ["once.secret"])
        self.assertEqual((self.dir / "once.secret").read_bytes(), before["once.secret"])

    def test_refuses_what_cannot_be(self):
        self.refuses("absent/x.public", "keygen", "absent/x", code=1)
        self.refuses("an argument is missing", "keygen")
        self.refuses("unexpected argument 'b'", "keygen", "a", "b")


if __name__ == "__main__":
    unittest.main()
