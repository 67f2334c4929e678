/* SPDX-License-Identifier: MIT */
/* What inspect shows, with Docker's field names where the meaning is the same. */
#ifndef CLI_INSPECT_H
#define CLI_INSPECT_H

#include "app.h"

/* A command that shows everything about what it is given. */
struct inspect {
	const char *format; /* of --format; NULL or "": all together as one JSON array */
	bool images;	    /* get needs the image store */
	/* Finds one and makes its JSON, a new reference. 0, or -errno with e set. */
	int (*get)(struct app *a, const struct inspect *in, const char *ref, json_t **ret, struct err *e);
	/* Adds what a template may ask for; may be NULL. */
	void (*complete)(json_t *j);
	const void *data; /* for get */
};
/* Prints those that argv[1..] name; one that cannot be shown is told. Returns the command's status. */
int inspect_all(const struct cmd *c, const struct inspect *in, int argc, char **argv);

/* Docker's form of a time: "0001-01-01T00:00:00Z" for never. */
json_t *inspect_time_json(int64_t ns);
/* with_size: also what it takes on disk, which has to be looked up. */
json_t *inspect_box_json(const struct app *a, const struct box *b, bool with_size);

/* *ret: a new reference. Reads the image's documents. 0 or -errno. */
int inspect_image_json(struct app *a, const struct oci_image *i, json_t **ret, struct err *e);

#endif
