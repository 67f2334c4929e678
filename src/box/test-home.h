/* SPDX-License-Identifier: MIT */
/* A fresh home folder for each test, with one image in its store, and boxes that run nothing. */
#ifndef BOX_TEST_HOME_H
#define BOX_TEST_HOME_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/io.h"
#include "box/box.h"

extern struct state *st; /* open on the test's home */
extern struct err err;	 /* filled by the last call of these helpers that failed */

extern const struct oci_image image; /* the one in the store */

/* For cmocka_unit_test_setup_teardown. The home lies in A3S_TEST_DIR [/tmp]. */
int home_set_up(void **state);
int home_tear_down(void **state);
#define HOME_TEST(fn) cmocka_unit_test_setup_teardown(fn, home_set_up, home_tear_down)

/* Another connection to the same home, for children. Exits on failure. */
struct state *home_reopen(void);
/* Fails the test with the error's text unless r is what is wanted. */
void expect(int r, int want);
/* Makes a box; its lock is held in *lock. */
struct box *make_box(const char *name, bool auto_remove, enum box_state state, int *lock);
/* The same with the lock given up; the ID, malloc'd. */
char *make_idle_box(const char *name);
/* Writes a state into the record, legal or not. */
void force_state(const char *id, enum box_state state);
/* The state in the record, or -1 when there is none. */
int state_of(const char *id);
/* Whether a path below the home folder exists; fmt takes the ID. */
bool exists(const char *folder, const char *id, const char *name);
int64_t count_rows(const char *table);

#endif
