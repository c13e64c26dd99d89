#include "sae/suspicion.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/compiler.h"

/*
 * SAEs explain 0.6 to 0.95 of the variance of their own layer, of MLP outputs sometimes half.
 * Vectors that have nothing to do with the layer still get 0.1 to 0.2: the best k of many
 * directions fit anything a little. Strength falls in a line from 0.1 to 0.5, so that doubt begins
 * at 0.3 and ends at 0.2. Below 0 the plain mean would do better.
 */
static const double variance_low = 0.1, variance_high = 0.5;

/*
 * A decoder's bias that was trained leaves no mean error: with another mean or scale, or axes
 * turned, a tenth and more of the error is one and the same vector (0.14 to 0.6 on the demo's and
 * the MATH SAE, whose own layer gives 0.001). Texts of one kind may have some of that too, so it
 * alone is never certain, and below a fifth not even doubt.
 */
static const double bias_told = 0.05, bias_sure = 0.4;

/* A mean over fewer tokens than this may be of one prompt, whose own spread is no measure. */
#define TOKENS_MIN 100

/* Where one sign alone must not settle it: more than doubt, less than certainty. */
static const double strength_unsure = 0.6;

/* L0 and norms within this factor of what they should be are the difference between texts. */
static const double factor_max = 2;

/* A set may hold this share of samples that no SAE reads: garbled text, another language. */
static const double worse_max = 0.2;

/* Signs that only support others: they occur in healthy SAEs too. */
static const double strength_support = 0.3;
static const double dense_max = 0.2, sinks_max = 0.25;
/* A dictionary smaller than this cannot be sparse in that sense. */
#define DENSE_LATENTS_MIN 256

static void add(struct suspicion *s, double strength, const char *words, ...) PRINTF_LIKE(3, 4);

static void add(struct suspicion *s, double strength, const char *words, ...)
{
    struct suspicion_reason *reason = &s->reasons[s->n++];
    va_list args;

    reason->strength = strength;
    va_start(args, words);
    vsnprintf(reason->words, sizeof(reason->words), words, args);
    va_end(args);
    s->score = 1 - (1 - s->score) * (1 - strength);
}

/* 0.5 at twice or half of what it should be, 0.75 at four times, and so on. */
static double strength_of_ratio(double x, double expected)
{
    double ratio = x > expected ? x / expected : expected / x;

    return ratio > factor_max ? 1 - 1 / ratio : 0;
}

/* Vectors of one position, or means, differ less than tokens do: V is not that of training. */
static bool has_own_variance(const struct sae_evidence *e)
{
    return !e->pooled && (e->tokens == 0 || e->tokens >= TOKENS_MIN);
}

static double strength_of_variance(const struct sae_evidence *e)
{
    double s = (variance_high - e->explained_variance) / (variance_high - variance_low);

    s = fmin(1, fmax(0, s));
    return has_own_variance(e) ? s : fmin(s, strength_unsure);
}

static void judge_l0(struct suspicion *s, const struct sae_evidence *e)
{
    double strength = strength_of_ratio(e->l0, e->declared_l0);

    if (strength == 0)
        return;
    /* It reads these activations all the same: its threshold is another one than was declared. */
    if (e->explained_variance >= variance_high)
        strength = fmin(strength, strength_unsure);
    add(s, strength,
        "median L0 is %.6g on these activations, %.6g is declared: is this the right model, layer "
        "and activation function?",
        e->l0, e->declared_l0);
}

static void judge_variance(struct suspicion *s, const struct sae_evidence *e)
{
    double strength = strength_of_variance(e);

    if (e->explained_variance < 0)
        add(s, strength,
            "the reconstruction is worse than the mean (explained variance %.3f): another model, "
            "layer or scale than the SAE was trained on?",
            e->explained_variance);
    else if (strength > 0)
        add(s, strength,
            "the reconstruction explains little (explained variance %.3f, SAEs reach 0.6 and more "
            "on their own layer): another model, layer or scale than the SAE was trained on?",
            e->explained_variance);
}

static void judge_bias(struct suspicion *s, const struct sae_evidence *e)
{
    if (e->bias > bias_told && has_own_variance(e))
        add(s, fmin(strength_unsure, e->bias / bias_sure),
            "%.0f %% of the reconstruction error is one and the same vector, where training leaves "
            "next to none: another scale, a bias left out, or another layer?",
            100 * e->bias);
}

void sae_suspect(struct suspicion *s, const struct sae_evidence *e)
{
    bool l0 = e->declared_l0 > 0 && e->l0 >= 0, norm = e->norm_expected > 0 && e->norm > 0;

    *s = (struct suspicion){.score = 0};
    if (l0)
        judge_l0(s, e);
    if (!isnan(e->explained_variance))
        judge_variance(s, e);
    judge_bias(s, e);
    if (norm && strength_of_ratio(e->norm, e->norm_expected) > 0)
        add(s, strength_of_ratio(e->norm, e->norm_expected),
            "median |x| is %.4g, the SAE was trained on an average of %.4g: another layer, or a "
            "scale left out or applied twice?",
            e->norm, e->norm_expected);
    /* Of a sound set few samples are that bad, of the wrong layer most are: the share itself. */
    if (e->worse > worse_max && has_own_variance(e))
        add(s, e->worse, "the SAE does worse than the mean on %.0f %% of the samples",
            100 * e->worse);
    if (e->dense > dense_max && e->d_sae >= DENSE_LATENTS_MIN)
        add(s, strength_support,
            "%.0f %% of the latents are active in more than a tenth of the tokens: codes are not "
            "sparse",
            100 * e->dense);
    if (e->sinks > sinks_max)
        add(s, strength_support,
            "%.0f %% of the tokens are sinks, far longer than the median: are these activations of "
            "one layer, on one scale?",
            100 * e->sinks);
    if (s->n == 0 && !l0 && !norm && isnan(e->explained_variance))
        s->score = NAN;
}
