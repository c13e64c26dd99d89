#!/usr/bin/env python3
"""The house rules that a compiler does not check: lint.py [--root DIR] CHECK...

    layers       #include "folder/file.h" goes to a lower row or stays in its folder
    third_party  each foreign header is included by the one file that wraps it
    guards       a header's guard is its path
    headers      every header compiles alone, with gcc and with clang
    format       clang-format 14 would change nothing
    functions    functions that no code here may call
    terminal     only cli/ writes to the terminal or ends the process
    memory       only base/mem allocates
    style        tabs, long lines, typedef'd structs, work left without a reason
    paths        no path of somebody's machine
    docs         links in Markdown lead somewhere; settings it names exist
    wired        every source and every test program is named in a meson.build

A finding is one line, "file:line: what". Exit status 0: none; 1: some; 77: a tool that the check
needs is not here, which is said. Python's standard library only.
"""

import argparse
import os
import platform
import re
import shutil
import subprocess
import sys

# Rows of the layer map, lowest first. Folders of one row never see each other.
ROWS = [
    ["base"],
    ["linalg", "formats", "settings"],
    ["sae", "clustering", "scoring"],
    ["curator", "report", "ipc"],
    ["cli"],
]
ROW_OF = {folder: i for i, row in enumerate(ROWS) for folder in row}

# C and POSIX, the kernel's and glibc's own: anybody may include them.
SYSTEM_HEADERS = set(
    """assert ctype errno fenv float inttypes limits locale math setjmp signal stdalign stdarg
    stdatomic stdbool stddef stdint stdio stdlib stdnoreturn string strings tgmath threads time
    wchar wctype arpa/inet dirent dlfcn endian fcntl fnmatch ftw getopt glob grp langinfo libgen malloc
    linux/futex net/if netdb netinet/in netinet/tcp poll pthread pwd regex sched semaphore spawn
    sys/auxv sys/epoll sys/eventfd sys/file sys/ioctl sys/mman sys/mount sys/prctl sys/random sys/resource
    sys/select sys/signalfd sys/socket sys/stat sys/statvfs sys/syscall sys/sysinfo sys/time
    sys/timerfd sys/times sys/types sys/uio sys/un sys/utsname sys/wait syslog termios unistd
    utime""".split()
)

# Foreign header: the only files that may include it. A pattern ending in "/" is a folder.
THIRD_PARTY = {
    "xxh_x86dispatch.h": ["base/hash.c"],
    "xxhash.h": ["base/hash.c"],
    "cblas.h": ["linalg/blas.c"],
    "lapacke.h": ["linalg/blas.c"],
    "openblas_config.h": ["linalg/blas.c"],
    "cpuid.h": ["linalg/cpu.c"],
    "asm/hwcap.h": ["linalg/cpu.c"],
    "immintrin.h": ["linalg/x86/"],
    "arm_neon.h": ["linalg/arm/"],
    "json.h": ["formats/json.c"],
    "json-c/json.h": ["formats/json.c"],
    "archive.h": ["formats/archive.c"],
    "archive_entry.h": ["formats/archive.c"],
    "zlib.h": ["formats/archive.c"],
    "yaml.h": ["settings/yaml.c"],
    # The tests register a file system of their own with it, one that fails.
    "sqlite3.h": ["curator/database.c", "tests/support/failing_vfs.c"],
    # The bare library is what the sidecar is measured against.
    "zmq.h": ["ipc/socket.c", "tests/bench/zmq_peer.c"],
    "microhttpd.h": ["ipc/metrics.c"],
    "cmocka.h": ["tests/support/cmocka_headers.h"],
}

# Why not, for the person who meets the finding.
FORBIDDEN_FUNCTIONS = {
    "atoi": "strtol reports errors",
    "atol": "strtol reports errors",
    "atoll": "strtoll reports errors",
    "atof": "strtod reports errors",
    "strcpy": "knows no size",
    "stpcpy": "knows no size",
    "strcat": "knows no size",
    "sprintf": "knows no size; snprintf or base/text",
    "vsprintf": "knows no size; vsnprintf or base/text",
    "gets": "knows no size",
    "strtok": "has hidden state",
    "alloca": "cannot fail cleanly",
    "rand": "has hidden state; base/rng",
    "srand": "has hidden state; base/rng",
    "random": "has hidden state; base/rng",
    "drand48": "has hidden state; base/rng",
    "asctime": "has hidden state",
    "ctime": "has hidden state",
    "gmtime": "has hidden state; gmtime_r",
    "localtime": "has hidden state; localtime_r",
    "setjmp": "errors are returned",
    "longjmp": "errors are returned",
}
TERMINAL_FUNCTIONS = ["printf", "vprintf", "puts", "putchar", "perror", "exit", "_exit",
                      "quick_exit", "abort", "err", "errx", "warn", "warnx"]
ALLOCATORS = ["malloc", "calloc", "realloc", "reallocarray", "aligned_alloc", "posix_memalign",
              "strdup", "strndup", "asprintf", "vasprintf", "free"]

TEXT_SUFFIXES = (".c", ".h", ".py", ".sh", ".build", ".options", ".md", ".scd", ".yaml", ".yml",
                 ".cff", ".S", ".txt", ".suppressions", ".clang-tidy", ".clang-format",
                 ".gitignore")
CODE_SUFFIXES = (".c", ".h", ".py", ".sh", ".build", ".options", ".S")
LINE_MAX = 100  # clang-format's for C
LINE_MAX_PYTHON = 120
SKIP = 77

# Split so that this file passes its own checks.
UNFINISHED = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X)\b(?P<reason>.*)")
# Test inputs are data, not text of ours.
DATA_FOLDERS = ("tests/golden/", "tests/fuzz/corpus/", "examples/demo/")


def strip_comments(text, blank_strings):
    """Comments become blanks, line for line; so does what is inside quotes, if asked."""
    out = []
    pattern = re.compile(
        r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.DOTALL)
    last = 0
    for match in pattern.finditer(text):
        out.append(text[last:match.start()])
        token = match.group(0)
        if token[0] == "/":
            out.append(re.sub(r"[^\n]", " ", token))
        elif blank_strings:
            out.append(token[0] + " " * (len(token) - 2) + token[-1])
        else:
            out.append(token)
        last = match.end()
    out.append(text[last:])
    return "".join(out)


class Tree:
    """The project's own files: what git tracks or could, else all but build folders."""

    def __init__(self, root):
        self.root = os.path.abspath(root)
        self.files = self._list()

    def _list(self):
        if os.path.exists(os.path.join(self.root, ".git")):
            command = ["git", "-C", self.root, "ls-files", "-z", "--cached", "--others",
                       "--exclude-standard"]
            try:
                names = subprocess.run(command, check=True, capture_output=True).stdout.decode()
                return sorted(n for n in names.split("\0")
                              if n and os.path.isfile(os.path.join(self.root, n)))
            except (OSError, subprocess.CalledProcessError):
                pass
        found = []
        for folder, folders, names in os.walk(self.root):
            here = os.path.relpath(folder, self.root)
            folders[:] = [f for f in folders if f not in (".git", "__pycache__") and not (
                here == "." and (f.startswith("build") or f in ("B", "saerl-demo")))
                and not os.path.exists(os.path.join(folder, f, "meson-private"))]
            found += [os.path.normpath(os.path.join(here, n)) for n in names]
        return sorted(found)

    def named(self, *suffixes):
        return [f for f in self.files if f.endswith(suffixes)]

    def c_files(self):
        return self.named(".c", ".h")

    def own_text(self, suffixes):
        return [f for f in self.named(*suffixes) if not f.startswith(DATA_FOLDERS)]

    def read(self, name):
        with open(os.path.join(self.root, name), encoding="utf-8", errors="replace") as file:
            return file.read()

    def code(self, name):
        return strip_comments(self.read(name), blank_strings=True)


def includes(tree, name):
    """(line number, '"' or '<', path) of each include."""
    text = strip_comments(tree.read(name), blank_strings=False)
    for number, line in enumerate(text.split("\n"), 1):
        match = re.match(r'\s*#\s*include\s*(["<])([^">]+)[">]', line)
        if match:
            yield number, match.group(1), match.group(2)


def calls(tree, name, functions):
    """(line number, function) wherever one of them is called or its address taken by name."""
    pattern = re.compile(r"(?<![\w.>])(" + "|".join(functions) + r")\s*\(")
    for number, line in enumerate(tree.code(name).split("\n"), 1):
        for match in pattern.finditer(line):
            yield number, match.group(1)


def check_layers(tree):
    for name in tree.c_files():
        folder = name.split("/")[0]
        if folder in ("tests", "examples"):
            continue
        if folder not in ROW_OF:
            yield name, 1, "folder '%s' is in no row of the layer map (lint.py, ROWS)" % folder
            continue
        for number, kind, path in includes(tree, name):
            if kind == "<":
                continue
            target = path.split("/")[0]
            if "/" not in path:
                yield name, number, '"%s": paths start at the root of the project' % path
            elif target not in ROW_OF:
                yield name, number, '"%s": no such layer' % path
            elif target != folder and ROW_OF[target] >= ROW_OF[folder]:
                yield name, number, "%s/ must not see %s/, which is not in a lower row" % (
                    folder, target)


def check_third_party(tree):
    for name in tree.c_files():
        for number, kind, path in includes(tree, name):
            if kind != "<" or re.sub(r"\.h$", "", path) in SYSTEM_HEADERS:
                continue
            if path not in THIRD_PARTY:
                yield name, number, "<%s> is neither a system header nor in THIRD_PARTY" % path
                continue
            owners = THIRD_PARTY[path]
            if not any(name == o or (o.endswith("/") and name.startswith(o)) for o in owners):
                yield name, number, "<%s> belongs to %s alone" % (path, " ".join(owners))


def check_guards(tree):
    for name in tree.named(".h"):
        guard = re.sub(r"[^A-Z0-9]", "_", name.upper())
        lines = [line.strip() for line in tree.code(name).split("\n") if line.strip()]
        if lines[:2] != ["#ifndef " + guard, "#define " + guard] or lines[-1] != "#endif":
            yield name, 1, "the guard must be %s and enclose the file" % guard


def check_headers(tree):
    flags = ("-fsyntax-only -x c - -std=c11 -D_GNU_SOURCE -Wall -Wextra -Wpedantic -Wconversion"
             " -Wshadow -Wstrict-prototypes -Wundef -Werror -I").split()
    compilers = [c for c in ("gcc", "clang-14") if shutil.which(c)]
    if not compilers:
        compilers = [c for c in ("cc", "clang") if shutil.which(c)]
    if not compilers:
        skip("no C compiler")
    if len(compilers) == 1:
        print("note: only %s is here" % compilers[0])
    for name in tree.named(".h"):
        if "/x86/" in name and platform.machine() != "x86_64":
            continue
        # Twice, so that the guard is tried too; the variable, for a header of macros alone.
        source = '#include "%s"\n#include "%s"\nextern int lint_not_empty;\n' % (name, name)
        for compiler in compilers:
            result = subprocess.run([compiler] + flags + [tree.root], input=source,
                                    capture_output=True, text=True, check=False)
            if result.returncode:
                first = [line for line in result.stderr.split("\n") if "error" in line][:1]
                yield name, 1, "does not compile alone with %s: %s" % (
                    compiler, first[0] if first else result.stderr)


def check_format(tree):
    tool = shutil.which("clang-format-14") or shutil.which("clang-format")
    if not tool:
        skip("clang-format 14 is not here")
    version = subprocess.run([tool, "--version"], capture_output=True, text=True,
                             check=False).stdout
    if not re.search(r"version 14\.", version):
        skip("clang-format 14 is not here, only: " + version.strip())
    files = tree.c_files()
    if not files:
        return
    result = subprocess.run([tool, "--dry-run", "--Werror"] + files, cwd=tree.root,
                            capture_output=True, text=True, check=False)
    seen = set()
    for match in re.finditer(r"^(\S+?):(\d+):\d+: error: (.*)$", result.stderr, re.MULTILINE):
        if match.group(1) not in seen:
            seen.add(match.group(1))
            yield match.group(1), int(match.group(2)), "clang-format would change it, from here on"
    if result.returncode and not seen:
        yield files[0], 1, "clang-format: " + result.stderr.strip()


def check_functions(tree):
    for name in tree.c_files():
        for number, function in calls(tree, name, FORBIDDEN_FUNCTIONS):
            yield name, number, "%s(): %s" % (function, FORBIDDEN_FUNCTIONS[function])


# Where "-" in place of a file name becomes standard output.
OUTPUT_BY_NAME = ("formats/atomic_file.c",)


def check_terminal(tree):
    streams = re.compile(r"\b(stdout|stderr|STDOUT_FILENO|STDERR_FILENO)\b")
    for name in tree.c_files():
        if name.split("/")[0] in ("cli", "tests", "examples"):
            continue
        for number, function in calls(tree, name, TERMINAL_FUNCTIONS):
            yield name, number, "%s(): only cli/ writes to the terminal or exits" % function
        if name in OUTPUT_BY_NAME:
            continue
        for number, line in enumerate(tree.code(name).split("\n"), 1):
            if streams.search(line):
                yield name, number, "%s: only cli/ writes to the terminal" % (
                    streams.search(line).group(1))


def check_memory(tree):
    for name in tree.named(".c"):
        if name == "base/mem.c" or name.split("/")[0] in ("tests", "examples"):
            continue
        for number, function in calls(tree, name, ALLOCATORS):
            yield name, number, "%s(): memory goes through base/mem.h" % function


def check_style(tree):
    for name in tree.own_text(TEXT_SUFFIXES):
        code = name.endswith(CODE_SUFFIXES)
        for number, line in enumerate(tree.read(name).split("\n"), 1):
            if "\t" in line and not name.endswith(".scd"):
                yield name, number, "a tab"
            if line != line.rstrip():
                yield name, number, "blanks at the end of the line"
            columns = LINE_MAX_PYTHON if name.endswith(".py") else LINE_MAX
            if code and len(line) > columns:
                yield name, number, "%d columns, the limit is %d" % (len(line), columns)
            match = UNFINISHED.search(line) if code else None
            if match and len(re.findall(r"\w+", match.group("reason"))) < 4:
                yield name, number, "%s without a reason" % match.group(1)
    for name in tree.c_files():
        for number, line in enumerate(tree.code(name).split("\n"), 1):
            match = re.search(r"\btypedef\s+(struct|union|enum)\b(?![^;{]*\()", line)
            if match:
                yield name, number, "typedef %s: say '%s name'" % (match.group(1), match.group(1))


def check_paths(tree):
    pattern = re.compile("(?<![\\w.])/(" + "work|home|root|Users|mnt|tmp/saerl" + ")/[\\w.]")
    allowed = "ipc:///tmp/saerl/saerl.sock"  # where the sidecar listens by default
    for name in tree.own_text(TEXT_SUFFIXES):
        for number, line in enumerate(tree.read(name).split("\n"), 1):
            match = pattern.search(line.replace(allowed, ""))
            if match:
                yield name, number, "a path of one machine: /%s/" % match.group(1)


def known_settings(tree):
    """What docs/settings.md, which is printed from the tables, has: a.b.c and every prefix."""
    known, section = set(), ""
    for line in tree.read("docs/settings.md").split("\n"):
        heading = re.match(r"## (?:`([\w.]+)`)?", line)
        row = re.match(r"\| `(\w+)` \|", line)
        if heading:
            section = heading.group(1) or ""
        elif row:
            parts = (section + "." + row.group(1)).strip(".").split(".")
            known.update(".".join(parts[:i + 1]) for i in range(len(parts)))
    return known


FILE = re.compile(r"\.(c|h|jsonl|json|safetensors|yaml|html|npz|pt|py|txt)$")


def check_docs(tree):
    known = known_settings(tree) if "docs/settings.md" in tree.files else set()
    sections = {name.split(".")[0] for name in known if "." in name}
    for name in tree.named(".md"):
        fence = False
        for number, line in enumerate(tree.read(name).split("\n"), 1):
            fence ^= line.startswith("```")
            if fence:
                continue
            for target in re.findall(r"\]\(([^)#\s]+)", line):
                path = os.path.join(tree.root, os.path.dirname(name), target)
                if "://" not in target and not os.path.exists(path):
                    yield name, number, "the link to %s leads nowhere" % target
            for word in re.findall(r"`((?:\w+\.)+\w+)(?::[^`]*)?`", line):
                if word.split(".")[0] in sections and word not in known and not FILE.search(word):
                    yield name, number, "no such setting: %s" % word


def check_wired(tree):
    builds = {os.path.dirname(f): strip_hashes(tree.read(f)) for f in tree.files
              if os.path.basename(f) == "meson.build"}

    def mentioned(folder, words):
        while True:
            if any(word in builds.get(folder, "") for word in words):
                return True
            if not folder:
                return False
            folder = os.path.dirname(folder)

    for name in tree.named(".c", ".S"):
        folder, base = os.path.split(name)
        stem = os.path.splitext(base)[0]
        inside = os.path.relpath(name, name.split("/")[0])
        words = ["'%s'" % base, "'%s'" % inside]
        if name.startswith("tests/"):
            # A dictionary names test_<name>.c by <name>.
            words += ["'%s'" % stem, "'%s'" % stem.split("_", 1)[-1]]
        elif stem.startswith("kernels_") or "/" in inside:
            words += ["'%s'" % stem]
        if not mentioned(folder, words):
            yield name, 1, "no meson.build names it: it is never built"


def strip_hashes(text):
    return re.sub(r"^\s*#.*$", "", text, flags=re.MULTILINE)


class Skipped(Exception):
    pass


def skip(why):
    raise Skipped(why)


CHECKS = {name[len("check_"):]: function for name, function in sorted(globals().items())
          if name.startswith("check_")}


def run(check, tree):
    """Exit status of one check; findings go to stdout."""
    try:
        findings = list(CHECKS[check](tree))
    except Skipped as why:
        print("skipped %s: %s" % (check, why))
        return SKIP
    for name, number, what in findings:
        print("%s:%d: %s" % (name, number, what))
    return 1 if findings else 0


def main():
    parser = argparse.ArgumentParser(description="house rules that a compiler does not check")
    parser.add_argument("--root", default=os.path.join(os.path.dirname(__file__), "..", ".."))
    parser.add_argument("checks", nargs="*", metavar="CHECK", help=" ".join(CHECKS))
    arguments = parser.parse_args()
    unknown = [c for c in arguments.checks if c not in CHECKS]
    if unknown:
        parser.error("no such check: " + " ".join(unknown))
    tree = Tree(arguments.root)
    statuses = [run(check, tree) for check in arguments.checks or CHECKS]
    return 1 if 1 in statuses else (SKIP if SKIP in statuses else 0)


if __name__ == "__main__":
    sys.exit(main())
