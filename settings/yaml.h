/*
 * settings/yaml.h - YAML files into settings, errors with file:line:column (libyaml behind it).
 *
 * One document, at most 256 KiB, depth 32, 10,000 events; anchors, aliases, tags and merge keys are
 * refused, duplicate and unknown keys and tabs for indentation too. Columns count characters.
 */
#ifndef SETTINGS_YAML_H
#define SETTINGS_YAML_H

#include "base/error.h"
#include "settings/setting.h"

/*
 * Read a recipe into `target`, which settings_init prepared. `version: 1` is required.
 * `extends: base.yaml` (relative to the file) reads that one first, at most 8 deep. PATH and PATHS
 * values become absolute, relative ones taken from the folder of the file they stand in, defaults
 * from that of the recipe. STATUS_INVALID for anything wrong in the file or when it cannot be read;
 * `target` then holds what came before.
 */
MUST_CHECK
enum status yaml_read_settings(const char *path, const struct setting_section *schema, void *target,
                               struct error *err);

#endif
