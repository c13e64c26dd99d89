#include "sae/candidate.h"

#include <string.h>

uint64_t candidate_key(float value, uint32_t latent)
{
    uint32_t bits;

    memcpy(&bits, &value, sizeof(bits));
    return (uint64_t)(bits & 0x7fffffff) << 33 | (uint64_t)~latent << 1 | bits >> 31;
}

uint32_t candidate_latent(uint64_t key)
{
    return ~(uint32_t)(key >> 1);
}

float candidate_magnitude(uint64_t key)
{
    uint32_t bits = (uint32_t)(key >> 33);
    float value;

    memcpy(&value, &bits, sizeof(value));
    return value;
}

float candidate_value(uint64_t key)
{
    return key & 1 ? -candidate_magnitude(key) : candidate_magnitude(key);
}

uint64_t candidate_kth_largest(uint64_t *keys, size_t n, size_t k)
{
    uint64_t random = 0x9e3779b97f4a7c15;
    size_t begin = 0, end = n, target = k - 1;

    while (end - begin > 1) {
        size_t left = begin, right = end - 1;
        uint64_t pivot;

        random = random * 6364136223846793005 + 1442695040888963407;
        pivot = keys[begin + (size_t)(random >> 33) % (end - begin)];
        for (;;) {
            uint64_t swap;

            while (keys[left] > pivot)
                left++;
            while (keys[right] < pivot)
                right--;
            if (left >= right)
                break;
            swap = keys[left];
            keys[left] = keys[right];
            keys[right] = swap;
        }
        /* keys[left] is the pivot: larger ones are before it, smaller ones behind. */
        if (target == left)
            return pivot;
        if (target < left)
            end = left;
        else
            begin = left + 1;
    }
    return keys[begin];
}
