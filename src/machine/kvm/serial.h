/* SPDX-License-Identifier: MIT */
/*
 * The debug port: a 16450 (8250 with scratch register, no FIFO) that only transmits, as Linux's 8250 driver expects
 * it. For kernel messages and what is written to the console; the box's real console is a virtio device.
 *
 * Registers are by their offset, 0 to 7 (National Semiconductor's PC16550D data sheet, table II), so that ports and
 * memory can lead to it alike. Any thread.
 */
#ifndef KVM_SERIAL_H
#define KVM_SERIAL_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#define SERIAL_REGS 8

struct serial {
	int out_fd; /* borrowed; -1: there is no such port */
	int irq_fd; /* eventfd: the transmitter asks for the next character; owned */
	pthread_mutex_t lock;
	uint8_t ier, lcr, mcr, scr, dll, dlm;
	bool thr_empty; /* the interrupt of that name is pending */
	unsigned n;
	char line[256]; /* written at its end, so that a line costs one system call */
};

/* 0 or -errno. */
int serial_init(struct serial *s, int out_fd);
void serial_done(struct serial *s);
uint8_t serial_read(struct serial *s, unsigned reg);
void serial_write(struct serial *s, unsigned reg, uint8_t v);
/* Writes what has no line end yet. */
void serial_flush(struct serial *s);

#endif
