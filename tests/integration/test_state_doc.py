"""docs/state.md: what its queries print, and who may read a ledger that is in use."""

import os
import re
import shutil
import sqlite3
import subprocess
import tempfile
import unittest

EXAMPLE = os.environ["LEDGER_EXAMPLE"]
CHECKOUT = os.environ["CHECKOUT"]


class Example(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.state = os.path.join(self.folder.name, "state")
        self.database = os.path.join(self.state, "ledger.db")
        self.sidecar = subprocess.Popen([EXAMPLE, self.state], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True)
        self.addCleanup(self.stop)
        self.assertEqual(self.sidecar.stdout.readline(), "ready\n")

    def stop(self):
        self.sidecar.communicate(timeout=60)
        self.assertEqual(self.sidecar.returncode, 0)

    def commit(self):
        self.sidecar.stdin.write("x\n")
        self.sidecar.stdin.flush()
        return self.sidecar.stdout.readline().strip()

    def connect(self):
        connection = sqlite3.connect(self.database, isolation_level=None)
        self.addCleanup(connection.close)
        return connection

    def test_queries_print_what_the_page_shows(self):
        if not shutil.which("sqlite3"):
            self.skipTest("the sqlite3 program is not here")
        with open(os.path.join(CHECKOUT, "docs", "state.md"), encoding="utf-8") as page:
            examples = re.findall(r"```sql\n(.*?)```\n+```text\n(.*?)```", page.read(), re.DOTALL)
        self.assertGreaterEqual(len(examples), 10)
        for query, shown in examples:
            printed = subprocess.run(["sqlite3", "-readonly", "-header", "-column", self.database,
                                      query], capture_output=True, text=True, check=False)
            self.assertEqual(printed.stderr, "")
            lines = "".join(line.rstrip() + "\n" for line in printed.stdout.splitlines())
            self.assertEqual(lines, shown, query)

    def test_page_names_every_table_view_and_column(self):
        with open(os.path.join(CHECKOUT, "docs", "state.md"), encoding="utf-8") as page:
            text = page.read()
        connection = self.connect()
        for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type != 'index'"
                                          " AND name NOT LIKE 'sqlite_%'").fetchall():
            section = re.search(r"^\| `%s` \|.*$" % name, text, re.MULTILINE)
            self.assertIsNotNone(section, name)
            for column in connection.execute("SELECT name FROM pragma_table_info(?)", (name,)):
                if column[0] != "checksum":
                    self.assertIn("`%s`" % column[0], section.group(0), name)

    def test_readers_and_the_sidecar_do_not_wait_for_each_other(self):
        reader = self.connect()
        reader.execute("BEGIN")
        before = reader.execute("SELECT n FROM commits").fetchone()
        for _ in range(3):
            self.assertEqual(self.commit(), "committed")
        self.assertEqual(reader.execute("SELECT n FROM commits").fetchone(), before)
        reader.execute("COMMIT")
        self.assertEqual(reader.execute("SELECT n FROM commits").fetchone(), (before[0] + 3,))

    def test_writer_from_outside_cannot_hold_the_sidecar_up_for_long(self):
        writer = self.connect()
        writer.execute("BEGIN IMMEDIATE")
        self.assertIn("another program has been writing to it", self.commit())
        writer.execute("ROLLBACK")
        self.assertEqual(self.commit(), "committed")


if __name__ == "__main__":
    unittest.main()
