"""Character-level tasks of graded difficulty, each with an answer that a program can check.

    A12+34=   sum            46        R4821=    reversed      1284
    S4821=    sorted         1248      M7,30,2=  the largest   30
    K4821=    copied         4821
"""

ALPHABET = "0123456789+=,ARSMK"
PAD, END = len(ALPHABET), len(ALPHABET) + 1
VOCABULARY = len(ALPHABET) + 2
PROMPT_MAX, ANSWER_MAX = 12, 8  # characters; the end mark is part of the answer
LEVELS = 5


def _digits(rng, n):
    return "".join(rng.choice("0123456789") for _ in range(n))


def draw(rng):
    """One (prompt, answer, level); levels 1 to 5."""
    kind, level = rng.choice("ARSMK"), rng.randint(1, LEVELS)
    if kind == "A":
        a, b = rng.randint(0, 10 ** ((level + 1) // 2) - 1), rng.randint(0, 10 ** (level // 2 + 1) - 1)
        return "A%d+%d=" % (a, b), str(a + b), level
    if kind == "M":
        numbers = [rng.randint(0, 9 if level < 3 else 99) for _ in range(2 + level // 3)]
        return "M%s=" % ",".join(map(str, numbers)), str(max(numbers)), level
    digits = _digits(rng, level + 1)
    answer = {"R": digits[::-1], "S": "".join(sorted(digits)), "K": digits}[kind]
    return "%s%s=" % (kind, digits), answer, level


def draw_distinct(rng, n, known=()):
    """n tasks whose prompts differ from each other and from those in `known`."""
    tasks, seen = [], set(known)
    while len(tasks) < n:
        task = draw(rng)
        if task[0] not in seen:
            seen.add(task[0])
            tasks.append(task)
    return tasks


def damage(rng, answer):
    """What a careless demonstrator writes: one digit is another one."""
    at = rng.randrange(len(answer))
    return answer[:at] + rng.choice("0123456789") + answer[at + 1 :]


def verify(answer, written):
    return 1.0 if written == answer else 0.0


def encode(text):
    return [ALPHABET.index(c) for c in text]


def decode(tokens):
    """Up to the end mark; None if there is none: nothing was answered."""
    tokens = list(tokens)
    if END not in tokens:
        return None
    return "".join(ALPHABET[t] if t < PAD else "?" for t in tokens[: tokens.index(END)])
