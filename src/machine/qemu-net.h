/* SPDX-License-Identifier: MIT */
/* Between the qemu backend and what it loads into QEMU (qemu-net.c). */
#ifndef QEMU_NET_H
#define QEMU_NET_H

#define QEMU_NET_FD   5
#define QEMU_NET_PATH "inherited" /* the file system is not asked for it */

#endif
