/*
 * ipc/auth_internal.h - what the self-test asks of the ZAP handler beyond ipc/auth.h.
 */
#ifndef IPC_AUTH_INTERNAL_H
#define IPC_AUTH_INTERNAL_H

#include "ipc/auth.h"

struct auth_trial {
    char guest[CURVE_KEY_TEXT_SIZE];    /* allowed beside the list */
    char stranger[CURVE_KEY_TEXT_SIZE]; /* not; refused without a word in the log */
    bool stranger_refused;              /* set when the handler was asked and said no */
};

/* Borrowed until the next call; NULL ends it. */
void auth_set_trial(struct auth *auth, struct auth_trial *trial);

#endif
