#!/usr/bin/env python3
"""Print the table of curator/letter_pairs.c: letter_pairs.py [LOCALES]

It counts pairs of the letters a to z in the vocabularies of the languages that the message
catalogues under LOCALES (/usr/share/locale) translate to. Which packages are installed changes a
level here and there; a Debian 12 with its desktop and developers' tools has some 50 MB of them.
Standard library only.
"""

import collections
import gettext
import math
import pathlib
import re
import string
import sys

# What is no language in a message: formats, options, names, paths, quotations, capitals.
NOISE = re.compile(
    r"%[-+0-9.# ]*(l|ll|z|h)?[a-zA-Z]|\{[^}]*\}|<[^>]*>|--?[A-Za-z-]+|\S*[/_=@.]\S+|&\w+;"
    r"|[A-Z]{2,}\w*|[a-z]+[A-Z]\w*|'[^']*'|\"[^\"]*\"|\u201c[^\u201d]*\u201d"
    r"|\u201e[^\u201c]*\u201c|\u00ab[^\u00bb]*\u00bb"
)
LATIN = re.compile("[a-z\u00c0-\u024f\u1e00-\u1eff]+")
ENGLISH_BY_OTHER_NAMES = ("en@boldquot", "en@quot", "en@shaw")
LETTERS_MIN, PAIRS_MIN = 25000, 20000  # of a language that counts
RANK = 3  # the third highest: a few names and loan words decide nothing


def read_messages(folder):
    messages = collections.defaultdict(set)
    for path in sorted(folder.glob("*/LC_MESSAGES/*.mo")):
        try:
            with path.open("rb") as file:
                catalogue = gettext.GNUTranslations(file)._catalog
        except (OSError, LookupError, ValueError):  # a plural rule that Python cannot read
            continue
        for original, text in catalogue.items():
            original = original[0] if isinstance(original, tuple) else original
            if not original or not isinstance(text, str):
                continue
            messages["en"].add(original)
            if text != original:
                messages[path.parts[-3]].add(text)
    return {language: "\n".join(NOISE.sub(" ", t) for t in sorted(texts)) for language, texts in messages.items()}


def count_pairs(text):
    """Shares of the pairs in the words of four letters and more, each spelling once; and how many."""
    counts = collections.Counter()
    for word in set(re.findall(r"[^\W\d_]+", text)):
        word = word.lower()
        if len(word) >= 4 and LATIN.fullmatch(word):
            counts.update(a + b for a, b in zip(word, word[1:]) if (a + b).isascii())
    total = sum(counts.values())
    return {pair: n / total for pair, n in counts.items()}, total


def is_written_in_latin(text):
    return len(re.findall("[a-z]", text.lower())) > 0.6 * len(re.findall(r"[^\W\d_]", text))


def main():
    messages = read_messages(pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "/usr/share/locale"))
    shares = []
    for language, text in messages.items():
        if language in ENGLISH_BY_OTHER_NAMES or len(re.findall("[a-z]", text.lower())) < LETTERS_MIN:
            continue
        pairs, total = count_pairs(text)
        if total > PAIRS_MIN and is_written_in_latin(text):
            shares.append(pairs)
    welsh, _ = count_pairs(messages.get("cy", ""))
    print("%d languages" % len(shares), file=sys.stderr)
    for a in string.ascii_lowercase:
        row = ""
        for b in string.ascii_lowercase:
            usual = sorted((s.get(a + b, 0) for s in shares), reverse=True)[RANK - 1]
            share = max(usual, welsh.get(a + b, 0), 1e-7)
            row += str(max(0, min(9, round(math.log2(share * 26 * 26) + 5))))
        print('    "%s", /* %s */' % (row, a))


if __name__ == "__main__":
    main()
