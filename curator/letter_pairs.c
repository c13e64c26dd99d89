#include "curator/letter_pairs.h"

#include <math.h>
#include <stdbool.h>

/*
 * levels[first][second]: 5 where a pair of letters is as frequent in the words of a language as it
 * would be if all 676 were equally frequent, one more for each doubling and one less for each
 * halving, kept within 0 and 9. It is the third highest figure of 43 languages, so that what a few
 * names and loan words bring in does not count, or that of Welsh, which is unlike them all. Counted
 * in the vocabulary (words of four letters and more) of the translated messages of Debian 12, by
 * scripts/letter_pairs.py.
 */
static const char levels[26][27] = {
    "87897667878889474989887477", /* a */
    "74228113742725620643625061", /* b */
    "80617008826613810647604080", /* c */
    "83298434845536950664646166", /* d */
    "86888685868989564998666777", /* e */
    "72017732732506710645514060", /* f */
    "83148365753536710675647072", /* g */
    "81148100745644730646636060", /* h */
    "86879676778889865898676567", /* i */
    "81039010603335610264730001", /* j */
    "94428235857735820677754053", /* k */
    "84569455875867841366746072", /* l */
    "87238344834464770454633053", /* m */
    "94788595986557832489756375", /* n */
    "57786675666879774887684246", /* o */
    "81337435733634870855625041", /* p */
    "30000000400000100000701000", /* q */
    "95679567966566853677756265", /* r */
    "84738567858656763479755054", /* s */
    "94339448845546830777865376", /* t */
    "75567555767778561787454445", /* u */
    "82128122734616710643520074", /* v */
    "74657251700557410753300080", /* w */
    "51405001500000350005400010", /* x */
    "74687764555678650676556003", /* y */
    "84357044725546640434553031", /* z */
};

/*
 * Words of these languages and names in programs average 7.1 to 7.8 with a deviation of 1.2 to 2 a
 * pair; letters drawn at random average 4.6, a row of the keyboard 5. Pairs of one word depend on
 * each other, hence the wide margins. Of the text of a language at most 0.4 % is in words below the
 * first limit, of random text 35 to 65 %; 2 to 7 % of random words reach FAMILIAR, and three in
 * four of real ones. The limits for a whole text are below what 100,000 sentences of 100 languages
 * had.
 */
#define USUAL 6.6
#define WORD_MARGIN 5.5
#define FAMILIAR 6.8
#define TEXT_MARGIN 5.0

static int letter(char c)
{
    if (c >= 'a' && c <= 'z')
        return c - 'a';
    return c >= 'A' && c <= 'Z' ? c - 'A' : -1;
}

struct letter_pairs letter_pairs_count(const char *word, size_t n)
{
    struct letter_pairs pairs = {0};
    int last = -1;

    for (size_t i = 0; i < n; i++) {
        int next = letter(word[i]);

        if (last >= 0 && next >= 0) {
            pairs.sum += (size_t)(levels[last][next] - '0');
            pairs.n++;
        }
        last = next;
    }
    return pairs;
}

enum letter_order letter_pairs_judge(struct letter_pairs word)
{
    double n = (double)word.n, sum = (double)word.sum;

    if (word.n < LETTER_PAIRS_MIN)
        return LETTERS_FEW;
    if (sum < USUAL * n - WORD_MARGIN * sqrt(n))
        return LETTERS_UNLIKELY;
    return sum >= FAMILIAR * n ? LETTERS_FAMILIAR : LETTERS_POSSIBLE;
}

double letter_pairs_disorder(struct letter_pairs text)
{
    double n = (double)text.n, below;

    if (text.n < LETTER_PAIRS_TEXT_MIN)
        return 0;
    below = USUAL - TEXT_MARGIN / sqrt(n) - (double)text.sum / n;
    return below <= 0 ? 0 : below >= 0.5 ? 1 : 2 * below;
}
