/* SPDX-License-Identifier: MIT */
/* a3s-box-netd: the process of one network (net/net.h). */
#include "net/net.h"

int main(void)
{
	return netd_main();
}
