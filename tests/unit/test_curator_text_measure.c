#include <math.h>
#include <stdio.h>
#include <string.h>

#include "curator/letter_pairs.h"
#include "curator/text_measure.h"
#include "tests/support/cmocka_headers.h"

static struct text_measure measure(const char *s)
{
    struct text_measure m;

    text_measure(&m, s, strlen(s));
    return m;
}

/* What a prompt may well be. None of these may come near garbage. */
static const char *const fine[] = {
    /* too short to be told */
    "",
    "?",
    "x",
    "Hi",
    "yes",
    "asdf",
    "2+2=?",
    "28*5=",
    "S1105=",
    "G2B,28=",
    "C5:5055555555=",
    "E1x+0=0=",
    "N18,39,60=",
    "I3:964=",
    "A3-115IM%=",
    "AAAB:AABB::BBBA:?",
    "nbsp",
    /* numbers, as many and as dull as they like */
    "1111111111111111*1111111111111111=",
    "3 1 4 1 5 9 2 6 5 3 5 8 9 7 9 3 2 3 8 4 6 2 6 4",
    "0 0 0 0 0 1 0 0 0 0 0 0 0 0 1 1 1 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0",
    "[[0,0,0,0],[0,1,1,0],[0,0,0,0]] -> [[0,0,0,0],[0,2,2,0],[0,0,0,0]]",
    "1010110111001011 XOR 1110001110001110",
    "12, 45, 9, 33, 102, 7, 18, 96, 4, 55, 61",
    "2000+2001+2002+2003+2004+2005+2006=",
    "0x1F & 0xA0 | 0x0B",
    "-5*-4*-3/(2-8)^2%7",
    /* formulas */
    "((((((1+2)*3)-4)/5)^6)%7)=?",
    "$$\\sum_{n=1}^{\\infty}\\frac{1}{n^2}=?$$",
    "\\begin{pmatrix}1&2&3\\\\4&5&6\\\\7&8&9\\end{pmatrix}^{-1}",
    "\\int_0^1\\int_0^1\\frac{dx\\,dy}{1-xy}",
    "x^4-5x^3+6x^2+4x-8=0",
    "sin(x)cos(x)tan(x)",
    "$\\mathbf{v}\\cdot\\mathbf{w}=\\|\\mathbf{v}\\|\\,\\|\\mathbf{w}\\|\\cos\\theta$",
    "∀x∈ℝ ∃y: x²+y²=1 ⇒ |x|≤1",
    "∫₀^∞ e^{-x²}dx",
    "√2×√8÷√4",
    "f:ℕ→ℕ, f(f(n))=n+1",
    "H2SO4 + 2NaOH -> Na2SO4 + 2H2O",
    "1/2+1/3+1/6=",
    "A ∪ (B ∩ C) = (A ∪ B) ∩ (A ∪ C)",
    /* programs and data */
    "for(i=0;i<n;i++){a[i]=b[i]*c[i];}",
    "Fix: `int *p=&a[0]; *p++=(*q)->x;`",
    "SELECT id,name FROM users WHERE age>30 ORDER BY name;",
    "^(?:[^\\w\\s]+|\\d*?)$",
    "awk -F: '{print $1}' /etc/passwd | sort -u",
    "ls -la | grep ^d; rm -rf ./build && make",
    "++++[>++++[>++++<-]<-]>>.",
    "def f(x): return x**2 if x else __import__('os').name",
    "{\"a\":[{\"b\":1},{\"c\":[1,2,3]}],\"d\":null,\"e\":{\"f\":true}}",
    "#include <stdio.h>\nint main(void)\n{\n    printf(\"%d\\n\", strlen(argv[1]));\n}",
    "template<typename T> std::vector<std::pair<T,T>> f(const T&x){return {{x,x}};}",
    "lhs rhs ptr cfg ctx fmt str mkdir xrandr strncpy fwrite",
    "git rebase -i HEAD~3",
    "https://en.wikipedia.org/wiki/Euler%27s_totient_function",
    "<p>Find x if 2x=4</p>",
    "| a | b | c |\n|---|---|---|\n| 1 | 2 | 3 |\n| 4 | 5 | 6 |",
    "x=1,y=2,z=3",
    "<div class=\"q\"><p>What is the sum of the first ten odd numbers?</p></div>",
    "CC(=O)OC1=CC=CC=C1C(=O)O",
    "1. e4 e5 2. Nf3 Nc6 3. Bb5 a6 4. Ba4 Nf6 5. O-O",
    "ACGTACGTTAGCTAGCTAGCATCGATCGATCGATCGACTAGCTA",
    "T F T F F T T F",
    "a b c d e f g h",
    "MKTAYIAKQRQISFVKSHFSRQLEERLGLIEVQAPILSRVGDGTQDNLSGAEKAVQVKVKALPDAQFEVVHSLAKWKRQTLGQ",
    /* languages */
    "What is the remainder when 7^100 is divided by 13?",
    "NASA, FBI, KGB, HTML, XML, CSS, PDF",
    "Krk, prst, vrt, čtvrtek, smrt; strč prst skrz krk",
    "MCMXCIV + XXIX = ?",
    "Chrząszcz brzmi w trzcinie w Szczebrzeszynie",
    "Cwm fjord bank glyphs vext quiz",
    "Disgrifiad o'r statws er mwyn i ddefnyddwyr ei ddarllen yn gyflawn",
    "Rindfleischetikettierungsüberwachungsaufgabenübertragungsgesetz",
    "Hãy tìm số nguyên tố nhỏ nhất lớn hơn một trăm",
    "Yksikkömatriisin ominaisarvot ovat?",
    "求方程x^2-5x+6=0的根，并说明理由。",
    "設函數f(x)=ax^2+bx+c，求a的值",
    "東京タワーの高さは何メートルですか？",
    "ما هو مجموع الأعداد من 1 إلى 100؟",
    "दो संख्याओं का योग 15 है और अंतर 3 है। संख्याएँ ज्ञात कीजिए।",
    "서울의 인구는 얼마입니까? 답을 숫자로 쓰시오.",
    "Сколько будет два плюс два?",
    "Ποιο είναι το άθροισμα;",
    "כמה זה שתיים ועוד שתיים?",
    "ให้ x เป็นจำนวนจริง จงหาค่าของ x",
    "བར་སྟོང་ལྷུག་ལྷུག་གི་བསྡོམས་ཚད",
    "🍎+🍎=10, 🍎+🍌=7, 🍌=?",
    "Translate \"nǐ hǎo\" to English",
    /* something odd, and words that ask about it */
    "Decode this base64 string into plain text: SGVsbG8gd29ybGQhIFRoaXMgaXMgYSB0ZXN0Lg==",
    "Decrypt the Caesar cipher: WKH TXLFN EURZQ IRA MXPSV RYHU WKH ODCB GRJ",
    "How many times does ab occur in ababababababababababababababababababab?",
    "....#....\n.###.....\n...##....\nFind the way out of the maze from the top left corner.",
    "解码下面的字符串并写出原文：SGVsbG8gd29ybGQhIFRoaXMgaXMgYSB0ZXN0Lg==",
};

/* What none can answer. */
static const struct {
    const char *text;
    enum text_oddity oddity;
} garbage[] = {
    {"asdf jklsdf sdfkj sdkfjh skdfjh weoriu", TEXT_SMASHED},
    {"qwlkejr qlwkejr lqkwjer lkqjwer lkjqwer", TEXT_SMASHED},
    {"xkcdqzvbnmwrtplkjhgfdszxcvbqwrtp", TEXT_SMASHED},
    {"fjdksla; fjdksla; vncmx,z. eiwoqp rueiwo", TEXT_SMASHED},
    {"Ð¡ÐºÐ¾Ð»ÑŒÐºÐ¾ Ð±ÑƒÐ´ÐµÑ‚ Ð´Ð²Ð° Ð¿Ð»ÑŽÑ Ð´Ð²Ð°", TEXT_MOJIBAKE},
    {"ä½ å¥½ï¼Œè¯·é—®ä¸€åŠ ä¸€ç­‰äºŽå‡ ", TEXT_MOJIBAKE},
    {"����� ����� ���������� ���", TEXT_MOJIBAKE},
    {"\x01\x02\x7f ab \x03\x04 q \x05\x06\x0e x \x11\x12\x14\x15\x16", TEXT_MOJIBAKE},
    {"ຊדЖ한क字ปЩขא字Жक한ᛏ字קЖ한गЩ字แ", TEXT_MOJIBAKE},
    {"SGVsbG8gd29ybGQhIFRoaXMgaXMgYSB0ZXN0IG9mIGJhc2U2NCBlbmNvZGluZw==", TEXT_ENCODED},
    {"9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08", TEXT_ENCODED},
    {"%E4%BD%A0%E5%A5%BD%EF%BC%8C%E8%AF%B7%E9%97%AE", TEXT_ENCODED},
    {"\\u4f60\\u597d\\uff0c\\u8bf7\\u95ee\\u4e00\\u52a0", TEXT_ENCODED},
    {"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", TEXT_REPEATED},
    {"the the the the the the the the the the the the", TEXT_REPEATED},
    {"undefinedundefinedundefinedundefinedundefinedundefined"
     "undefinedundefinedundefinedundefinedundefinedundefined",
     TEXT_REPEATED},
    {"Solve this. Solve this. Solve this. Solve this. Solve this. Solve this.", TEXT_REPEATED},
    {"哈哈哈哈哈哈哈哈哈哈哈哈哈哈哈哈哈哈哈哈哈哈哈哈", TEXT_REPEATED},
    {"!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!", TEXT_REPEATED},
    {"!@#$%^&*()_+!@#$%^&*(){}|:?~`", TEXT_SYMBOLS},
    {"@@##$$%%^^&&**!!~~``??\\\\||@@##", TEXT_SYMBOLS},
    {"xK#9m$Qw@7zR!2pLd~Vt4?bN`8hYc#Jf@3sG$k!Xw6", TEXT_SYMBOLS},
    {"<div class=\"a\"><span>&nbsp;</span></div><br><br><p></p>&nbsp;&#160;", TEXT_MARKUP},
    {"<html><head><meta charset=\"utf-8\"><link rel=\"stylesheet\" href=\"style.css\"></head>"
     "<body><div id=\"main\"></div></body></html>",
     TEXT_MARKUP},
};

static void readable_text_is_not_garbage(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(fine) / sizeof(*fine); i++) {
        struct text_measure m = measure(fine[i]);

        if (m.garbage >= 0.4)
            fail_msg("%.2f, %s: %s", m.garbage, text_oddity_name(m.oddity), fine[i]);
    }
}

static void garbage_is_found_and_named(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(garbage) / sizeof(*garbage); i++) {
        struct text_measure m = measure(garbage[i].text);

        if (m.garbage < TEXT_GARBAGE || m.oddity != garbage[i].oddity)
            fail_msg("%.2f, %s: %s", m.garbage, text_oddity_name(m.oddity), garbage[i].text);
    }
}

static uint64_t seed;

static size_t random_below(size_t n)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (size_t)(seed >> 33) % n;
}

/* Of 500 texts drawn from an alphabet, how many are found. */
static size_t count_found(const char *alphabet, size_t words, size_t length)
{
    size_t found = 0;

    seed = 1;
    for (int i = 0; i < 500; i++) {
        struct text_measure m;
        char text[1024];
        size_t n = 0;

        for (size_t w = 0; w < words; w++) {
            size_t end = n + length / 2 + random_below(length);

            while (n < end && n < sizeof(text) - 1)
                text[n++] = alphabet[random_below(strlen(alphabet))];
            if (w + 1 < words && n < sizeof(text) - 1)
                text[n++] = ' ';
        }
        text_measure(&m, text, n);
        found += m.garbage >= TEXT_GARBAGE;
    }
    return found;
}

static void random_characters_are_found(void **state)
{
    static const char lower[] = "abcdefghijklmnopqrstuvwxyz", home[] = "asdfghjkl";
    static const char base64[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char printable[95];

    (void)state;
    for (int c = '!'; c <= '~'; c++)
        printable[c - '!'] = (char)c;
    printable[94] = '\0';
    assert_true(count_found(lower, 12, 7) >= 475);
    assert_true(count_found(home, 12, 7) >= 425);
    assert_true(count_found(lower, 1, 100) >= 475);
    assert_true(count_found("asdfghjklqwertyuiopzxcvbnm;[]{}#@!$", 1, 130) >= 425);
    assert_true(count_found(base64, 1, 100) >= 490);
    assert_true(count_found(printable, 1, 200) >= 425);
    assert_int_equal(count_found("0123456789", 12, 7), 0);
    assert_int_equal(count_found("0123456789+-*/=()", 6, 12), 0);
}

/* Instructions of a chat are read apart: they do not hide what the user's message is. */
static void a_chat_is_as_bad_as_its_worst_message(void **state)
{
    struct text_measure m = measure("system\x1fYou are a helpful assistant that solves problems."
                                    "\x1euser\x1f"
                                    "asdf jklsdf sdfkj sdkfjh skdfjh weoriu\x1e");

    (void)state;
    assert_true(m.garbage >= TEXT_GARBAGE);
    m = measure("system\x1f"
                "asdf jklsdf sdfkj sdkfjh skdfjh weoriu\x1euser\x1fWhat is 2+2?\x1e");
    assert_true(m.garbage < TEXT_GARBAGE);
    m = measure("system\x1f"
                "asdf jklsdf sdfkj sdkfjh skdfjh weoriu\x1e");
    assert_true(m.garbage >= TEXT_GARBAGE);
}

static void empty_is_what_shows_nothing(void **state)
{
    static const char *const empty[] = {"",
                                        " \t\r\n",
                                        "\xc2\xa0\xe2\x80\x8b\xef\xbb\xbf",
                                        "user\x1f\x1e",
                                        "user\x1f \n\036assistant\x1f\x1e",
                                        "system\x1fYou are helpful.\x1euser\x1f\x1e"};

    (void)state;
    for (size_t i = 0; i < sizeof(empty) / sizeof(*empty); i++) {
        struct text_measure m = measure(empty[i]);

        if (!m.empty || m.garbage != 0)
            fail_msg("case %zu: not empty", i);
    }
    assert_false(measure("?").empty);
    assert_false(measure("user\x1f?\x1e").empty);
    assert_false(measure("system\x1fWhat is 2+2?\x1e").empty);
}

static void shares_are_of_visible_characters(void **state)
{
    struct text_measure m = measure("user\x1f"
                                    "ab 12 \xc3\xa9! ab\x1e");

    (void)state;
    assert_int_equal(m.bytes, 12);
    assert_int_equal(m.characters, 8);
    assert_int_equal(m.words, 4);
    assert_true(fabs(m.letters - 5.0 / 8) < 1e-12);
    assert_true(fabs(m.digits - 2.0 / 8) < 1e-12);
    assert_true(fabs(m.distinct - 3.0 / 4) < 1e-12);
    assert_true(m.repeated == 0);
    m = measure("");
    assert_true(isnan(m.distinct));
    assert_true(m.letters == 0 && m.garbage == 0);
    assert_int_equal(m.oddity, TEXT_PLAIN);
    m = measure("no no no no no no no no no no");
    assert_true(m.repeated > 0.8);
}

/* Bytes that are no UTF-8 cannot come from JSON; they are survived all the same. */
static void any_bytes_can_be_measured(void **state)
{
    char bytes[64];

    (void)state;
    seed = 7;
    for (int i = 0; i < 20000; i++) {
        struct text_measure m;
        size_t n = random_below(sizeof(bytes));

        for (size_t k = 0; k < n; k++)
            bytes[k] = (char)random_below(256);
        text_measure(&m, bytes, n);
        assert_true(m.garbage >= 0 && m.garbage <= 1);
        assert_true(m.letters >= 0 && m.letters <= 1);
        assert_true(m.repeated >= 0 && m.repeated <= 1);
    }
}

static void long_texts_count_all_their_words(void **state)
{
    char text[40000];
    struct text_measure m;
    size_t n = 0;

    (void)state;
    for (int i = 0; i < 5000; i++)
        n += (size_t)snprintf(text + n, sizeof(text) - n, "w%d ", i % 1000);
    text_measure(&m, text, n);
    assert_int_equal(m.words, 5000);
    assert_true(fabs(m.distinct - 1000.0 / 1024) < 1e-12); /* of the first 1024 */
}

static enum letter_order judge(const char *word)
{
    return letter_pairs_judge(letter_pairs_count(word, strlen(word)));
}

static void letter_pairs_tell_words_from_mashed_keys(void **state)
{
    static const char *const words[] = {"remainder", "Wahrscheinlichkeit", "szczebrzeszyn",
                                        "integers",  "programme",          "kwadratowego"};
    static const char *const mashed[] = {"xkqzvjw", "sdfkjhsdkjfh", "wqjxkz", "dfghjklqwx"};

    (void)state;
    for (size_t i = 0; i < sizeof(words) / sizeof(*words); i++)
        assert_true(judge(words[i]) > LETTERS_UNLIKELY);
    for (size_t i = 0; i < sizeof(mashed) / sizeof(*mashed); i++)
        assert_int_equal(judge(mashed[i]), LETTERS_UNLIKELY);
    assert_int_equal(judge("the"), LETTERS_FEW);
    assert_int_equal(judge("\xc3\xa9t\xc3\xa9"
                           "1a2b"),
                     LETTERS_FEW);
    assert_true(letter_pairs_disorder(letter_pairs_count("qxzjvkwqxzjvk", 13)) == 0); /* too few */
    assert_true(letter_pairs_disorder((struct letter_pairs){.n = 100, .sum = 460}) == 1);
    assert_true(letter_pairs_disorder((struct letter_pairs){.n = 100, .sum = 700}) == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(readable_text_is_not_garbage),
        cmocka_unit_test(garbage_is_found_and_named),
        cmocka_unit_test(random_characters_are_found),
        cmocka_unit_test(a_chat_is_as_bad_as_its_worst_message),
        cmocka_unit_test(empty_is_what_shows_nothing),
        cmocka_unit_test(shares_are_of_visible_characters),
        cmocka_unit_test(any_bytes_can_be_measured),
        cmocka_unit_test(long_texts_count_all_their_words),
        cmocka_unit_test(letter_pairs_tell_words_from_mashed_keys),
    };

    return cmocka_run_group_tests_name("curator/text_measure", tests, NULL, NULL);
}
