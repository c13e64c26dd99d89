/*
 * settings/path.h - the absolute spelling of a path, for files that may not exist yet.
 *
 * The current folder and the folder of a recipe change between the time a path is written down and
 * the time it is opened, or run again from a lock file: so paths become absolute where they enter.
 */
#ifndef SETTINGS_PATH_H
#define SETTINGS_PATH_H

#include "base/error.h"

/*
 * `path` taken from `folder` (NULL: the current one), without ".", "//", a slash at the end, and
 * without "x/.." unless x is a symbolic link or a glob, where that would name another file. The
 * file need not exist. *absolute is the caller's. STATUS_INVALID: empty, not UTF-8 or no current
 * folder.
 */
MUST_CHECK
enum status path_absolute(char **absolute, const char *folder, const char *path, struct error *err);

/* The part before the last slash: "." if there is none, "/" for the root. The caller's. */
MUST_CHECK
enum status path_folder(char **folder, const char *path, struct error *err);

/* `path` as it stands if absolute, else put after `folder`. The caller's. */
MUST_CHECK
enum status path_join(char **joined, const char *folder, const char *path, struct error *err);

#endif
