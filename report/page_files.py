#!/usr/bin/env python3
"""Writes the C source that puts style and script into the program, and the policy with their
hashes: page_files.py OUTPUT STYLE SCRIPT TIMELINE [UPLOT_LICENCE UPLOT_SCRIPT UPLOT_STYLE]

The hash is of exactly the bytes between the tags, so both come from one place. uPlot's licence goes
in front of its script.
"""

import base64
import hashlib
import os
import sys


def read(path):
    with open(path, encoding="utf-8", newline="") as file:
        return file.read().strip() + "\n"


def array(name, text):
    """As numbers: C compilers need not take string literals of this length."""
    data = text.encode()
    lines = [",".join(str(b) for b in data[i:i + 24]) for i in range(0, len(data), 24)]
    return (f"static const unsigned char {name}_bytes[] = {{\n" + ",\n".join(lines + ["0"]) +
            f"\n}};\nconst struct page_file {name} = {{(const char *){name}_bytes, {len(data)}}};"
            "\n\n")


def source(text):
    digest = hashlib.sha256(text.encode()).digest()
    return "'sha256-" + base64.b64encode(digest).decode() + "'"


def main(output, style, script, timeline, *uplot):
    files = {"page_uplot_style": "", "page_style": read(style),
             "page_uplot_script": "", "page_script": read(script)}
    if uplot:
        licence, uplot_script, uplot_style = (read(path) for path in uplot)
        files["page_uplot_style"] = uplot_style
        files["page_script"] += read(timeline)
        files["page_uplot_script"] = ("/* uPlot\n" + licence.replace("*/", "* /") + "*/\n" +
                                      uplot_script)
    for name, text in files.items():
        # Any of these would end the element early or change how its end is looked for.
        if any(part in text.lower() for part in ("</style", "</script", "<script", "<!--")):
            sys.exit(f"page_files.py: {name} holds a tag of its own element")
    policy = "; ".join([
        "default-src 'none'",
        "style-src " + " ".join(source(files[n]) for n in files if "style" in n and files[n]),
        "script-src " + " ".join(source(files[n]) for n in files if "script" in n and files[n]),
        "base-uri 'none'",
        "form-action 'none'",
    ])
    with open(output + ".new", "w", encoding="ascii") as out:
        out.write("/* Written by report/page_files.py. */\n#include \"report/page_files.h\"\n\n")
        for name, text in files.items():
            out.write(array(name, text))
        out.write(f"const char page_policy[] =\n    \"{policy}\";\n")
    os.replace(output + ".new", output)


if __name__ == "__main__":
    main(*sys.argv[1:])
