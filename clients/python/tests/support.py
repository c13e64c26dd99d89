"""What the tests share. A test program that lacks a module says so and exits 77, which is a skip."""

import importlib
import os
import pathlib
import shutil
import sys
import tempfile
import unittest

PACKAGE = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(PACKAGE))


def need(*modules):
    for name in modules:
        try:
            importlib.import_module(name)
        except ImportError:
            print("skipped: no module %s" % name)
            sys.exit(77)


class FolderCase(unittest.TestCase):
    def setUp(self):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="saerl-py-"))
        self.addCleanup(shutil.rmtree, self.dir, ignore_errors=True)


def program():
    """The real saerl, or None: SAERL_PROGRAM, set by whoever wants the adapters tested on it."""
    return os.environ.get("SAERL_PROGRAM")
