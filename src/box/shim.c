/* SPDX-License-Identifier: MIT */
/* a3s-box-shim: the supervisor's program. Started by a3s-box alone. */
#include <stdio.h>

#include "base/log.h"
#include "box/box.h"

int main(int argc, char **argv)
{
	log_init("a3s-box-shim");
	if (argc != 2) {
		fprintf(stderr,
			"a3s-box-shim: started by a3s-box for each running box; it has no use of its own\n");
		return 125;
	}
	return supervisor_main(argv[1]);
}
