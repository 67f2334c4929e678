/* SPDX-License-Identifier: MIT */
#include "names.h"

#include "base/io.h"

/* Short, inoffensive, easy to say; 64 each, so that six random bits choose one. */
static const char *const adjectives[64] = {"agile", "amber", "azure", "basic", "bold", "brave", "brisk",
	"calm", "clear", "clever", "cool", "cosmic", "crisp", "daring", "deft", "eager", "early", "easy",
	"epic", "fair", "fancy", "fast", "fine", "fleet", "fond", "free", "fresh", "gentle", "glad", "golden",
	"grand", "green", "happy", "hardy", "honest", "humble", "jolly", "keen", "kind", "light", "lively",
	"loyal", "lucid", "lucky", "merry", "mild", "neat", "nimble", "noble", "open", "patient", "plain",
	"polite", "proud", "quick", "quiet", "rapid", "ready", "silent", "solid", "steady", "sunny", "swift",
	"wise"};
static const char *const nouns[64] = {"acorn", "alder", "anchor", "aspen", "badger", "beacon", "birch",
	"bison", "brook", "cedar", "cliff", "cloud", "comet", "coral", "crane", "delta", "dune", "eagle",
	"ember", "falcon", "fern", "fjord", "forest", "fox", "garnet", "glade", "grove", "harbor", "hawk",
	"heron", "island", "ivy", "jasper", "kestrel", "lagoon", "lake", "larch", "lynx", "maple", "marten",
	"meadow", "mesa", "moss", "oak", "opal", "orchid", "otter", "owl", "pebble", "pine", "puffin",
	"quartz", "raven", "reef", "river", "robin", "sparrow", "spruce", "summit", "swan", "thistle",
	"tulip", "willow", "wren"};

char *box_make_name(unsigned attempt)
{
	uint16_t rnd[2];

	io_random(rnd, sizeof(rnd));
	const char *a = adjectives[rnd[0] % 64], *n = nouns[rnd[1] % 64];
	/* With thousands of boxes the plain names run out: later attempts carry a number. */
	return attempt < 3 ? str_printf("%s_%s", a, n)
			   : str_printf("%s_%s%u", a, n, (unsigned)(rnd[0] / 64 + 1));
}

int box_name_taken(const char *name, struct err *e)
{
	err_set(e, -EEXIST, "the name \"%s\" is already in use by another box", name);
	return err_hint(e, "remove that box, or choose another name");
}
