#include "sae/activation.h"

#include <stddef.h>

static const char *const names[ACTIVATION_COUNT] = {
    [ACTIVATION_RELU] = "relu",
    [ACTIVATION_TANH_RELU] = "tanh_relu",
    [ACTIVATION_JUMPRELU] = "jumprelu",
    [ACTIVATION_TOPK] = "topk",
    [ACTIVATION_TOPK_SIGNED] = "topk_signed",
    [ACTIVATION_GROUPMAX] = "groupmax",
    [ACTIVATION_GATED] = "gated",
};

const char *activation_name(enum activation activation)
{
    return activation < ACTIVATION_COUNT ? names[activation] : "unknown";
}
