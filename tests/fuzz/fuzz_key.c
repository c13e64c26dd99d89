/* A key file as bytes: what is accepted is one key, which libzmq knows, too. */
#include <string.h>

#include "ipc/key_file.h"
#include "tests/support/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char key[CURVE_KEY_TEXT_SIZE], public_key[CURVE_KEY_TEXT_SIZE];
    struct error err = {0};

    if (key_parse(key, (const char *)data, size, "key", &err)) {
        FUZZ_CHECK(key[0] == '\0');
        FUZZ_CHECK(err.message[0] && !strchr(err.message, '\n'));
        return 0;
    }
    FUZZ_CHECK(strlen(key) == CURVE_KEY_TEXT_SIZE - 1);
    FUZZ_CHECK(memmem(data, size, key, strlen(key)) != NULL);
    FUZZ_CHECK(curve_public(public_key, key, NULL) == STATUS_OK);
    FUZZ_CHECK(key_text_valid(public_key, strlen(public_key)));
    return 0;
}
