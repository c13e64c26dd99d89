#!/usr/bin/env python3
"""Each check of lint.py passes a sound tree and finds what is wrong with a broken one.

A check that cannot fail guards nothing; these trees are what it must say no to.
"""

import os
import sys
import tempfile
import unittest

import lint

HEADER = "#ifndef {guard}\n#define {guard}\n\n{body}\n#endif\n"


def header(path, body=""):
    guard = path.upper().replace("/", "_").replace(".", "_")
    return HEADER.format(guard=guard, body=body)


SOUND = {
    "base/text.h": header("base/text.h", "#include <stddef.h>\n\nsize_t text_length(void);\n"),
    "base/text.c": '#include "base/text.h"\n\n#include <string.h>\n\n'
                   "size_t text_length(void)\n{\n    return 0;\n}\n",
    "base/meson.build": "base_lib = static_library('base', 'text.c')\n",
    "sae/sae.h": header("sae/sae.h", '#include "base/text.h"\n'),
    "tests/unit/meson.build": "tests = ['base_text']\n",
    "tests/unit/test_base_text.c": '#include "base/text.h"\n',
}

# check: (files laid over the sound tree, what the finding says)
BROKEN = {
    "layers": [
        ({"base/text.c": '#include "sae/sae.h"\n'}, "base/ must not see sae/"),
        ({"sae/sae.h": header("sae/sae.h", '#include "scoring/probe.h"\n')},
         "sae/ must not see scoring/"),
        ({"base/text.c": '#include "text.h"\n'}, "start at the root"),
        ({"base/text.c": '#include "boost/text.h"\n'}, "no such layer"),
        ({"misc/a.c": "\n"}, "in no row"),
        ({"base/text.c": '#if 1\n#  include "cli/a.h"\n#endif\n'}, "must not see cli/"),
    ],
    "third_party": [
        ({"base/text.c": "#include <xxhash.h>\n"}, "belongs to base/hash.c alone"),
        ({"sae/sae.h": header("sae/sae.h", "#include <cblas.h>\n")}, "belongs to linalg/blas.c"),
        ({"base/text.c": "#include <glib.h>\n"}, "neither a system header"),
        ({"linalg/matrix.c": "#include <immintrin.h>\n"}, "belongs to linalg/x86/"),
        ({"tests/unit/test_base_text.c": "#include <cmocka.h>\n"}, "cmocka_headers.h alone"),
    ],
    "guards": [
        ({"base/text.h": "#ifndef TEXT_H\n#define TEXT_H\n#endif\n"}, "BASE_TEXT_H"),
        ({"linalg/x86/sse.h": "#ifndef LINALG_SSE_H\n#define LINALG_SSE_H\n#endif\n"},
         "LINALG_X86_SSE_H"),
        ({"base/text.h": "#pragma once\n"}, "BASE_TEXT_H"),
        ({"base/text.h": header("base/text.h") + "int more;\n"}, "enclose the file"),
    ],
    "headers": [
        ({"base/text.h": header("base/text.h", "size_t text_length(void);\n")}, "alone with gcc"),
        ({"base/text.h": header("base/text.h", "int text_length();\n")}, "does not compile alone"),
        ({"base/text.h": "int text_once = 1;\n"}, "does not compile alone"),
    ],
    "format": [
        ({"base/text.c": "int  f(void){return 0;}\n"}, "clang-format would change it"),
    ],
    "functions": [
        ({"base/text.c": "int f(const char *s)\n{\n    return atoi(s);\n}\n"}, "atoi()"),
        ({"base/text.c": "void f(char *s)\n{\n    strcpy (s, \"\");\n}\n"}, "strcpy()"),
        ({"tests/unit/test_base_text.c": "int x = rand();\n"}, "rand()"),
    ],
    "terminal": [
        ({"base/text.c": 'void f(void)\n{\n    printf("x");\n}\n'}, "printf()"),
        ({"base/text.c": 'void f(void)\n{\n    fputs("x", stderr);\n}\n'}, "stderr"),
        ({"base/text.c": "void f(void)\n{\n    exit(1);\n}\n"}, "exit()"),
    ],
    "memory": [
        ({"base/text.c": "void *f(void)\n{\n    return malloc(1);\n}\n"}, "malloc()"),
    ],
    "style": [
        ({"base/text.c": "int f(void)\n{\n\treturn 0;\n}\n"}, "a tab"),
        ({"base/text.c": "int x; \n"}, "blanks at the end"),
        ({"base/text.c": "// " + "x" * 100 + "\n"}, "103 columns"),
        ({"base/text.h": header("base/text.h", "typedef struct {\n    int x;\n} text;\n")},
         "typedef struct"),
        ({"base/text.c": "/* TO" + "DO */\n"}, "without a reason"),
        ({"base/text.c": "/* FIX" + "ME: later */\n"}, "without a reason"),
    ],
    "paths": [
        ({"base/text.c": '#define DATA "/ho' + 'me/somebody/data"\n'}, "one machine"),
        ({"README.md": "see /wo" + "rk/notes.md\n"}, "one machine"),
    ],
    "docs": [
        ({"README.md": "see [this](docs/gone.md)\n"}, "leads nowhere"),
        ({"docs/settings.md": "## `sae`\n\n| `pooling` | `max` |\n",
          "README.md": "set `sae.polling: max`\n"}, "no such setting: sae.polling"),
    ],
    "wired": [
        ({"base/lost.c": "int x;\n"}, "no meson.build names it"),
        ({"tests/unit/test_base_lost.c": "int x;\n"}, "no meson.build names it"),
        ({"base/meson.build": "# 'text.c'\n"}, "no meson.build names it"),
    ],
}

# What looks like a violation and is none: check: files
INNOCENT = {
    "functions": [{"base/text.c": "/* atoi() is bad */\nconst char *s = \"sprintf(\";\n"},
                  {"base/text.c": "int f(void)\n{\n    return my_rand() + o->rand(0);\n}\n"},
                  {"base/text.c": "int n = snprintf(s, 2, \"\");\n"}],
    "terminal": [{"cli/main.c": 'int main(void)\n{\n    printf("x");\n    return 0;\n}\n'},
                 {"base/text.c": "void f(void)\n{\n    file_abort(x);\n    vsnprintf(a);\n}\n"}],
    "style": [{"base/text.h": header("base/text.h", "typedef enum status (*call)(void *);\n"
                                      "typedef struct error *body(int);\n")},
              {"base/text.c": "/* TO" + "DO: wait until libyaml reports columns in bytes */\n"}],
    "layers": [{"base/text.c": '/* #include "cli/main.h" */\n'},
               {"tests/unit/test_base_text.c": '#include "cli/main.h"\n'}],
    "memory": [{"base/text.c": "void f(void)\n{\n    mem_free(p);\n    json_free(p);\n}\n"}],
    "docs": [{"docs/settings.md": "## `sae`\n\n| `pooling` | `max` |\n",
              "README.md": "`sae.pooling: max`, `cfg.json`, [web](https://example.org/x)\n"}],
    "paths": [{"docs/x.md": "ipc:///tmp/saerl/saerl.sock\n"}],
}


class LintTest(unittest.TestCase):
    def findings(self, check, overlay):
        with tempfile.TemporaryDirectory() as root:
            for name, text in {**SOUND, **overlay}.items():
                path = os.path.join(root, name)
                os.makedirs(os.path.dirname(path), exist_ok=True)
                with open(path, "w", encoding="utf-8") as file:
                    file.write(text)
            rules = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../.clang-format")
            with open(rules, encoding="utf-8") as source, open(
                    os.path.join(root, ".clang-format"), "w", encoding="utf-8") as target:
                target.write(source.read())
            try:
                return ["%s:%d: %s" % f for f in lint.CHECKS[check](lint.Tree(root))]
            except lint.Skipped as why:
                self.skipTest(str(why))

    def test_every_check_has_a_case(self):
        self.assertEqual(set(BROKEN), set(lint.CHECKS))

    def test_sound_tree_passes(self):
        for check in lint.CHECKS:
            with self.subTest(check=check):
                self.assertEqual(self.findings(check, {}), [])

    def test_broken_trees_are_found(self):
        for check, cases in BROKEN.items():
            for overlay, expected in cases:
                with self.subTest(check=check, overlay=overlay):
                    found = self.findings(check, overlay)
                    self.assertTrue(any(expected in f for f in found), found)

    def test_innocent_trees_pass(self):
        for check, cases in INNOCENT.items():
            for overlay in cases:
                with self.subTest(check=check, overlay=overlay):
                    self.assertEqual(self.findings(check, overlay), [])


if __name__ == "__main__":
    sys.dont_write_bytecode = True
    unittest.main()
