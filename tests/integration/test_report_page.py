#!/usr/bin/env python3
"""The page of a report, as a browser's parser sees it: test_report_page.py

Reports are made up by tests/support/report_sample.py, turned into pages by report_page. What is
checked holds for every page: nothing is fetched, nothing runs but what the policy names by hash,
texts stay texts, and what a screen reader needs is there.
"""

import base64
import hashlib
import os
import re
import subprocess
import sys
import tempfile
import unittest
from html.parser import HTMLParser

CHECKOUT = os.environ["CHECKOUT"]
REPORT_PAGE = os.environ["REPORT_PAGE"]
KINDS = ["healthy", "problems", "hostile", "huge", "text_only"]
BYTES_MAX = 2000000

VOID = {"meta", "input", "br"}
TAGS = VOID | set(
    """rect line circle path html head title style script body header nav main section article footer
    a b i p h1 h2 h3 h4
    ol ul li dl dt dd div span small code pre u mark details summary figure figcaption table caption
    thead tbody tr th td label output svg g text desc defs pattern button""".split())
DRAWN = {"g", "rect", "line", "circle", "path", "text", "tspan", "title", "desc", "defs", "pattern"}
ATTRIBUTES = set(
    """lang charset http-equiv content name id class href aria-label aria-labelledby aria-hidden
    aria-describedby scope open role type min max step for colspan start
    x y x1 y1 x2 y2 cx cy r width height d points viewbox fill transform patternunits
    patterntransform preserveaspectratio""".split())


class Page(HTMLParser):
    """Tags, attributes and text; complains where a browser would repair."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.stack, self.problems, self.elements = [], [], []
        self.text = {"style": [], "script": []}
        self.feed(text)
        self.close()
        if self.stack:
            self.problems.append(f"never closed: {self.stack}")

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs), list(self.stack)))
        if len(attrs) != len(dict(attrs)):
            self.problems.append(f"{tag}: an attribute comes twice")
        if tag in self.text:
            self.text[tag].append("")
        if tag not in VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs), list(self.stack)))

    def handle_endtag(self, tag):
        if not self.stack or self.stack[-1] != tag:
            self.problems.append(f"</{tag}> in {self.stack[-4:]} at {self.getpos()}")
        else:
            self.stack.pop()

    def handle_data(self, data):
        if self.stack and self.stack[-1] in self.text:
            self.text[self.stack[-1]][-1] += data

    def handle_comment(self, data):
        self.problems.append("a comment")

    def all(self, *tags):
        return [(attrs, stack) for tag, attrs, stack in self.elements if tag in tags]


def sample(kind):
    script = os.path.join(CHECKOUT, "tests", "support", "report_sample.py")
    return subprocess.run([sys.executable, "-B", script, kind], check=True, timeout=120,
                          stdout=subprocess.PIPE).stdout


def page_of(report):
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        file.write(report)
        file.flush()
        return subprocess.run([REPORT_PAGE, file.name], check=True, timeout=120,
                              stdout=subprocess.PIPE).stdout


class Pages(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.bytes = {kind: page_of(sample(kind)) for kind in KINDS}
        cls.pages = {kind: Page(html.decode()) for kind, html in cls.bytes.items()}

    def each(self):
        return self.pages.items()

    def test_tags_and_attributes_are_ours(self):
        for _, page in self.each():
            self.assertEqual(page.problems, [])
            self.assertEqual({tag for tag, _, _ in page.elements} - TAGS, set())
            # An element of HTML inside a drawing would end it.
            self.assertEqual({tag for tag, _, stack in page.elements
                              if "svg" in stack or "title" in stack} - DRAWN, set())
            names = {name for _, attrs, _ in page.elements for name in attrs}
            self.assertEqual({n for n in names - ATTRIBUTES if not n.startswith("data-")}, set())

    def test_nothing_is_fetched(self):
        for kind, page in self.each():
            for tag, attrs, _ in page.elements:
                if "href" in attrs:
                    self.assertRegex(attrs["href"], r"^#[\w-]+$", tag)
                if "fill" in attrs:
                    self.assertRegex(attrs["fill"], r"^(url\(#[\w-]+\)|none)$", tag)
            for text in page.text["style"]:
                self.assertNotIn("url(", text)
                self.assertNotIn("@import", text)

    def test_the_policy_names_what_is_there(self):
        for _, page in self.each():
            policy = [attrs["content"] for attrs, _ in page.all("meta")
                      if attrs.get("http-equiv") == "Content-Security-Policy"]
            self.assertEqual(len(policy), 1)
            rules = dict(rule.strip().split(" ", 1) for rule in policy[0].split(";"))
            self.assertEqual(rules["default-src"], "'none'")
            self.assertEqual(rules["base-uri"], "'none'")
            self.assertEqual(rules["form-action"], "'none'")
            types = [attrs.get("type") for attrs, _ in page.all("script")]
            scripts = [text for text, type_ in zip(page.text["script"], types) if type_ is None]
            for rule, texts in (("style-src", page.text["style"]), ("script-src", scripts)):
                hashes = ["'sha256-" + base64.b64encode(
                    hashlib.sha256(text.encode()).digest()).decode() + "'" for text in texts]
                self.assertEqual(set(rules[rule].split()), set(hashes))
            # The policy must come before what it governs.
            tags = [tag for tag, attrs, _ in page.elements if tag in ("style", "script") or
                    attrs.get("http-equiv")]
            self.assertEqual(tags[0], "meta")

    def test_ids_are_unique_and_links_lead_somewhere(self):
        for _, page in self.each():
            ids = [attrs["id"] for _, attrs, _ in page.elements if "id" in attrs]
            self.assertEqual(sorted(ids), sorted(set(ids)))
            wanted = set()
            for _, attrs, _ in page.elements:
                for name in ("aria-labelledby", "aria-describedby", "for"):
                    wanted.update(attrs.get(name, "").split())
                if "href" in attrs:
                    wanted.add(attrs["href"][1:])
                wanted.update(re.findall(r"^url\(#(.*)\)$", attrs.get("fill", "")))
            self.assertEqual(wanted - set(ids), set())

    def test_headings_do_not_skip(self):
        for _, page in self.each():
            levels = [int(tag[1]) for tag, _, _ in page.elements if re.match(r"^h[1-6]$", tag)]
            self.assertEqual(levels.count(1), 1)
            self.assertEqual(levels[0], 1)
            for before, level in zip(levels, levels[1:]):
                self.assertLessEqual(level, before + 1)

    def test_landmarks_tables_and_charts_have_names(self):
        for _, page in self.each():
            for tag in ("main", "header", "nav", "footer"):
                # Inside of an article they are no landmarks.
                outer = [attrs for attrs, stack in page.all(tag) if "article" not in stack]
                self.assertEqual(len(outer), 1, tag)
            self.assertEqual(len(page.all("table")), len(page.all("caption")))
            for attrs, stack in page.all("th"):
                self.assertIn(attrs.get("scope"), ("col", "row"))
            for attrs, stack in page.all("section"):
                self.assertIn("aria-labelledby", attrs)
            for attrs, stack in page.all("svg"):
                if attrs.get("aria-hidden") != "true":
                    self.assertEqual(attrs.get("role"), "img")
                    self.assertTrue(attrs.get("aria-label") or attrs.get("aria-labelledby"))

    def test_hidden_signs_are_shown(self):
        for kind, page in self.each():
            text = self.bytes[kind].decode()
            self.assertEqual(re.findall("[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u200b\u200e\u200f\u2028-\u202e"
                                        "\u2060-\u206f\ufeff\U000e0000-\U000e0fff]", text), [])
        self.assertIn("<u>\\u202e</u>", self.bytes["hostile"].decode())

    def test_pages_are_bounded_and_the_same_each_time(self):
        for kind, _ in self.each():
            self.assertLessEqual(len(self.bytes[kind]), BYTES_MAX)
        self.assertEqual(self.bytes["problems"], page_of(sample("problems")))
        # What was left out of the huge one is said.
        self.assertIn("left out here, to keep this page", self.bytes["huge"].decode())
        self.assertNotIn("left out here, to keep this page", self.bytes["problems"].decode())

    def test_a_long_text_is_cut(self):
        report = sample("problems").decode().replace("Evaluate", "<&\\u0001" * 300000, 1)
        self.assertLessEqual(len(page_of(report.encode())), len(self.bytes["problems"]) + 8000)


class Colours(unittest.TestCase):
    """Contrast by WCAG 2: 4.5 for text, 3 for what is drawn."""

    def setUp(self):
        with open(os.path.join(CHECKOUT, "report", "style.css"), encoding="utf-8") as file:
            css = file.read()
        light, dark = re.findall(r":root \{(.*?)\}", css, re.DOTALL)[:2]
        read = lambda block: dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", block))
        self.themes = {"light": read(light), "dark": {**read(light), **read(dark)}}

    @staticmethod
    def contrast(a, b):
        def luminance(colour):
            parts = [int(colour[i:i + 2], 16) / 255 for i in (1, 3, 5)]
            linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
            return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
        x, y = sorted((luminance(a), luminance(b)))
        return (y + 0.05) / (x + 0.05)

    def test_text_can_be_read(self):
        pairs = [(text, ground) for text in ("ink", "soft", "link", "problem", "warning", "note",
                                             "ready") for ground in ("ground", "raised")]
        pairs += [("ink", "mark"), ("ink", "line"), ("ground", "ink")]
        pairs += [("h-low", f"h{i}") for i in range(6)] + [("h-high", f"h{i}") for i in range(6, 10)]
        for theme, colours in self.themes.items():
            for text, ground in pairs:
                with self.subTest(theme=theme, text=text, ground=ground):
                    self.assertGreaterEqual(self.contrast(colours[text], colours[ground]), 4.5)

    def test_what_is_drawn_stands_out(self):
        for theme, colours in self.themes.items():
            for i in range(8):
                with self.subTest(theme=theme, series=i):
                    self.assertGreaterEqual(self.contrast(colours[f"s{i}"], colours["ground"]), 3)

    def test_heat_goes_one_way(self):
        for theme, colours in self.themes.items():
            steps = [self.contrast(colours[f"h{i}"], colours["ground"]) for i in range(10)]
            with self.subTest(theme=theme):
                self.assertEqual(steps, sorted(steps))


if __name__ == "__main__":
    unittest.main()
