/*
 * base/portable_math.h - logarithm, exponential and log-gamma with the same bits on every machine.
 *
 * The C library's are not correctly rounded: their last bit depends on its version and, chosen at
 * run time, on whether the processor has fused multiply-add. Where such a bit can decide which
 * prompt is drawn, a run resumed elsewhere would go another way. These use additions, products,
 * quotients and exact scaling only, which IEEE 754 defines to the last bit. They are off by a few
 * units in the last place, and not made for speed.
 */
#ifndef BASE_PORTABLE_MATH_H
#define BASE_PORTABLE_MATH_H

/* log(x): -inf for 0, NaN below; subnormal numbers included. */
double portable_log(double x);

/* exp(x): inf above 709.78, 0 below -745.13, in between off by at most 4 units in the last place
 * (below -708, where results are subnormal, of the smallest number). */
double portable_exp(double x);

/*
 * log Gamma(x), x > 0: Stirling's series from x = 12 on (Abramowitz and Stegun 6.1.41), smaller x
 * by the recurrence. Off by at most 2e-14 max(1, |log Gamma(x)|).
 */
double portable_log_gamma(double x);

#endif
