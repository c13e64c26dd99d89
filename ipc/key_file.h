/*
 * ipc/key_file.h - CURVE keys on disk: NAME.secret (mode 0600) and NAME.public.
 *
 * A file has one key, a line of 40 characters of Z85; empty lines and those that begin with '#', as
 * no key can, are passed over. No message shows what a secret file has.
 */
#ifndef IPC_KEY_FILE_H
#define IPC_KEY_FILE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "ipc/socket.h"

/* 40 characters that stand for 32 bytes, not all zero; one key has one such text. */
bool key_text_valid(const char *text, size_t n);

/* The key in the contents of a file. STATUS_FORMAT: none, several, or a line that is no key; `path`
 * is for words. */
MUST_CHECK
enum status key_parse(char key[CURVE_KEY_TEXT_SIZE], const char *bytes, size_t n, const char *path,
                      struct error *err);

/*
 * A new pair, into NAME.secret and NAME.public. STATUS_CONFLICT: one of them is there already, and
 * a key is never overwritten; STATUS_IO. Both files or none.
 */
MUST_CHECK
enum status key_files_write(const char *name, char public_key[CURVE_KEY_TEXT_SIZE],
                            struct error *err);

/*
 * STATUS_INVALID: a symbolic link, not a regular file, not ours, or open to others: the message
 * says which. In the folder that CREDENTIALS_DIRECTORY names, which a service manager makes for us
 * alone, a file may be root's and readable by its group: that is how systemd hands over a
 * credential. STATUS_IO, STATUS_FORMAT.
 */
MUST_CHECK
enum status key_read_secret(char secret[CURVE_KEY_TEXT_SIZE], const char *path, struct error *err);

/*
 * The text of a key itself, or a file of one; what ends in ".public" is a file. STATUS_INVALID: the
 * file can be written by others, who could let themselves in. STATUS_IO, STATUS_FORMAT.
 */
MUST_CHECK
enum status key_read_public(char key[CURVE_KEY_TEXT_SIZE], const char *path_or_key,
                            struct error *err);

/* Overwrite a secret; not optimised away. */
void key_forget(char key[CURVE_KEY_TEXT_SIZE]);

/* No core dump of this process, no debugger of the same user: to be called before a secret is read.
 * STATUS_IO. */
MUST_CHECK
enum status key_protect_process(struct error *err);

#endif
