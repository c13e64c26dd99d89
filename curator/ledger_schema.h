/*
 * curator/ledger_schema.h - tables and views of the ledger; docs/state.md explains each column.
 *
 * The header of the database says whose it is: application_id "SRLe", user_version LEDGER_SCHEMA.
 */
#ifndef CURATOR_LEDGER_SCHEMA_H
#define CURATOR_LEDGER_SCHEMA_H

#include <stddef.h>

#define LEDGER_APPLICATION 0x53524c65
#define LEDGER_SCHEMA 1

extern const char *const ledger_schema[]; /* CREATE statements, NULL at the end */

/* How to read a table row by row, and to write the same rows elsewhere. */
struct ledger_table {
    const char *name;
    const char *select; /* all that the checksum covers, in order, and the checksum */
    const char *insert;
    const char *key; /* unique, whole numbers; the columns begin with it, unless it is the rowid */
    int n_keys;
};

/* Every table but `commits`, in an order in which they can be filled. */
extern const struct ledger_table ledger_tables[];
extern const size_t ledger_n_tables;

/* Small, and wrong answers where a row of theirs is: looked through at each start. */
struct ledger_small_table {
    const char *name, *sql;
};
extern const struct ledger_small_table ledger_small_tables[]; /* NULL at the end */

#endif
