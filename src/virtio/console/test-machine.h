/* SPDX-License-Identifier: MIT */
/* For tests: a guest with a console, and the host's ends of its descriptors. */
#ifndef CONSOLE_TEST_MACHINE_H
#define CONSOLE_TEST_MACHINE_H

#include "test-mmio-driver.h"
#include "virtio/console.h"

enum { RX = 0, TX = 1 };
#define F_SIZE	      (1ULL << 0)
#define F_EMERG_WRITE (1ULL << 2)
#define ALL	      (F_SIZE | F_EMERG_WRITE | VIRTIO_F_INDIRECT_DESC)
enum { EMERG_WR = 8 };

struct machine {
	struct loop *loop;
	struct console_dev *c;
	struct tdrv d;
	int in, out; /* our ends */
};

void set_up(struct machine *m, int in_fd, int out_fd);
/* The device has its duplicates, so nothing of what was given is needed any more. */
void boot(struct machine *m, int in_fd, int out_fd);
/* With a pipe each way. */
void boot_pipes(struct machine *m);
int setup(void **state);
int teardown(void **state);
/* Byte i of the n-th buffer of output. */
uint8_t pattern(unsigned n, size_t i);
/* Output of len bytes, of which those of the n-th buffer are known; not notified. Returns its head. */
uint16_t say(struct machine *m, unsigned n, uint32_t len);
uint16_t say_text(struct machine *m, const char *text);
/* A receive buffer; not notified. */
void *listen_for(struct machine *m, uint32_t len);
void kick_and_settle(struct machine *m, unsigned q);
void expect_text(struct machine *m, const char *text);
/* Reads the n-th buffer of output, which comes as fast as it is read. */
void expect_pattern(struct machine *m, unsigned n, size_t len);
void expect_silence(struct machine *m);
void expect_used(struct machine *m, unsigned q, uint16_t head, uint32_t len);
void expect_none_used(struct machine *m, unsigned q);
/* In a pipe. */
int waiting_bytes(int fd);

#endif
