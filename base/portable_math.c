#include "base/portable_math.h"

#include <math.h>

/* log 2 in two parts; the first has 33 bits, so that its product with an exponent is exact. */
#define LOG2_HIGH 0x1.62e42feep-1
#define LOG2_LOW 0x1.a39ef35793c76p-33

double portable_log(double x)
{
    int exponent;
    double m, s, s2, sum = 0;

    if (!(x > 0) || isinf(x))
        return x == 0 ? -INFINITY : x > 0 ? x : NAN;
    m = frexp(x, &exponent); /* [0.5, 1) */
    if (m < 0x1.6a09e667f3bcdp-1) {
        m *= 2;
        exponent--;
    }
    /* log m = 2 atanh s = 2 (s + s^3/3 + ...) with |s| <= 0.1716: s^24 is below 2^-61. */
    s = (m - 1) / (m + 1);
    s2 = s * s;
    for (int k = 23; k >= 3; k -= 2)
        sum = (sum + 1.0 / k) * s2;
    return exponent * LOG2_HIGH + (2 * s + (2 * s * sum + exponent * LOG2_LOW));
}

double portable_exp(double x)
{
    double k, r, sum = 1;

    if (isnan(x))
        return x;
    if (x > 0x1.62e42fefa39efp+9)
        return INFINITY;
    if (x < -0x1.74910d52d3052p+9)
        return 0;
    k = floor(x * 0x1.71547652b82fep+0 + 0.5); /* nearest multiple of log 2 */
    r = (x - k * LOG2_HIGH) - k * LOG2_LOW;
    /* |r| <= 0.3466: r^15 / 15! is below 2^-62. */
    for (int i = 14; i >= 1; i--)
        sum = 1 + sum * r / i;
    return ldexp(sum, (int)k);
}

double portable_log_gamma(double x)
{
    /* B_2k / (2k (2k - 1)) */
    static const double terms[] = {1.0 / 12,   -1.0 / 360,      1.0 / 1260, -1.0 / 1680,
                                   1.0 / 1188, -691.0 / 360360, 1.0 / 156,  -3617.0 / 122400};
    const double half_log_2pi = 0x1.d67f1c864beb5p-1;
    double product = 1, x2, sum = 0;

    while (x < 12) {
        product *= x;
        x += 1;
    }
    x2 = x * x;
    for (int k = 7; k >= 0; k--)
        sum = sum / x2 + terms[k];
    return (x - 0.5) * portable_log(x) - x + half_log_2pi + sum / x - portable_log(product);
}
