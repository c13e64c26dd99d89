"""The package as it is installed: a wheel without a network, its contents, and its types."""

import importlib.util
import pathlib
import re
import shutil
import subprocess
import sys
import unittest
import zipfile

from support import PACKAGE, FolderCase


def has(module):
    return importlib.util.find_spec(module) is not None


class Package(FolderCase):
    def copy(self):
        """The build writes beside its sources."""
        target = self.dir / "package"
        shutil.copytree(PACKAGE, target, ignore=shutil.ignore_patterns("__pycache__", "build", "*.egg-info"))
        return target

    def test_a_wheel_is_built_without_a_network(self):
        for module in ("pip", "wheel", "setuptools"):
            if not has(module):
                self.skipTest("no module %s (python3-pip python3-setuptools python3-wheel)" % module)
        built = subprocess.run(
            [sys.executable, "-m", "pip", "wheel", "--no-build-isolation", "--no-index", "--no-deps",
             "--no-cache-dir", "-w", str(self.dir / "out"), "."],
            cwd=self.copy(), capture_output=True, text=True, timeout=500)
        self.assertEqual(built.returncode, 0, built.stderr + built.stdout)
        (wheel,) = (self.dir / "out").glob("*.whl")
        self.assertRegex(wheel.name, r"^saerl-[\d.]+-py3-none-any\.whl$")
        names = zipfile.ZipFile(wheel).namelist()
        sources = {str(p.relative_to(PACKAGE)) for p in (PACKAGE / "saerl").rglob("*.py")}
        self.assertEqual({n for n in names if n.endswith(".py")}, sources)
        self.assertIn("saerl/py.typed", names)
        # What it does when only the wheel is there.
        done = subprocess.run([sys.executable, "-c", "import saerl, saerl.extract; print(saerl.__version__)"],
                              cwd=self.dir, env={"PYTHONPATH": str(wheel)}, capture_output=True, text=True)
        if "No module named" not in done.stderr or "saerl" in done.stderr.splitlines()[-1]:
            self.assertEqual(done.returncode, 0, done.stderr)

    def test_versions_agree(self):
        version = re.search(r'^version = "(.+)"$', (PACKAGE / "pyproject.toml").read_text(), re.M).group(1)
        self.assertIn('__version__ = "%s"' % version, (PACKAGE / "saerl/__init__.py").read_text())
        meson = PACKAGE.parents[1] / "meson.build"
        if meson.exists():
            self.assertIn("version: '%s'" % version, meson.read_text())

    def test_nothing_heavy_is_imported(self):
        code = ("import sys, saerl\n"
                "bad = {'torch', 'transformers', 'xxhash', 'trl', 'verl', 'slime'} & set(sys.modules)\n"
                "assert not bad, bad\n")
        done = subprocess.run([sys.executable, "-B", "-c", code], cwd=PACKAGE, capture_output=True, text=True)
        if "No module named 'zmq'" in done.stderr or "No module named 'numpy'" in done.stderr:
            self.skipTest("no zmq, no numpy")
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_types_hold(self):
        if not has("mypy"):
            self.skipTest("no module mypy")
        done = subprocess.run([sys.executable, "-m", "mypy", "--cache-dir", str(self.dir / "mypy"), "saerl"],
                              cwd=PACKAGE, capture_output=True, text=True, timeout=500)
        self.assertEqual(done.returncode, 0, done.stdout)

    def test_modules_come_without_a_path_of_their_own(self):
        for path in pathlib.Path(PACKAGE / "saerl").rglob("*.py"):
            self.assertTrue(path.read_text().startswith('"""'), path)


if __name__ == "__main__":
    unittest.main()
