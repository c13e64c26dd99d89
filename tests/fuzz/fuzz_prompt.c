/* A prompt as text: whatever it is, shares are shares and counts fit into it. */
#include <math.h>

#include "curator/text_measure.h"
#include "curator/words.h"
#include "tests/support/fuzz.h"

static int is_share(double x)
{
    return x >= 0 && x <= 1;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct text_view text = {.bytes = (const char *)data, .length = size}, word;
    struct text_measure m, again;
    size_t at = 0, last = 0;

    text_measure(&m, text.bytes, size);
    FUZZ_CHECK(m.bytes <= size && m.characters <= m.bytes && m.words <= m.bytes);
    FUZZ_CHECK(is_share(m.letters) && is_share(m.digits) && is_share(m.repeated));
    FUZZ_CHECK(m.letters + m.digits <= 1 + 1e-9);
    FUZZ_CHECK(is_share(m.garbage) && m.oddity < TEXT_ODDITY_COUNT);
    FUZZ_CHECK(m.words ? is_share(m.distinct) && m.distinct > 0 : isnan(m.distinct));
    FUZZ_CHECK((m.garbage == 0) == (m.oddity == TEXT_PLAIN));
    FUZZ_CHECK(!m.empty || m.garbage == 0);
    text_measure(&again, text.bytes, size);
    FUZZ_CHECK(again.garbage == m.garbage && again.words == m.words);
    while (words_next(text, &at, &word)) {
        FUZZ_CHECK(word.length > 0 && word.bytes >= text.bytes + last);
        last = (size_t)(word.bytes - text.bytes) + word.length;
        FUZZ_CHECK(last == at && at <= size);
    }
    return 0;
}
