/* SPDX-License-Identifier: MIT */
#include "kvm/serial.h"

#include <poll.h>
#include <sys/eventfd.h>

#include "base/cleanup.h"

enum { RBR_THR = 0, IER = 1, IIR_FCR = 2, LCR = 3, MCR = 4, LSR = 5, MSR = 6, SCR = 7 };
enum {
	IER_THRI = 0x02,
	IER_BITS = 0x0f,
	IIR_NONE = 0x01,
	IIR_THRI = 0x02,
	LCR_DLAB = 0x80,
	MCR_LOOP = 0x10,
	MCR_BITS = 0x1f,
	LSR_THRE_TEMT = 0x60,
	MSR_READY = 0xb0 /* DCD, DSR, CTS */
};

int serial_init(struct serial *s, int out_fd)
{
	*s = (struct serial){.out_fd = out_fd, .irq_fd = -1};
	pthread_mutex_init(&s->lock, NULL);
	if (out_fd < 0)
		return 0;
	s->irq_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return s->irq_fd < 0 ? -errno : 0;
}

void serial_done(struct serial *s)
{
	close_fd(&s->irq_fd);
	pthread_mutex_destroy(&s->lock);
}

/* A reader that does not keep up loses text: the guest must never wait for it. */
static void flush(struct serial *s)
{
	struct pollfd p = {.fd = s->out_fd, .events = POLLOUT};

	/* A pipe that is writable takes PIPE_BUF, which is more than a line, without blocking (pipe(7)). */
	if (s->n && poll(&p, 1, 0) == 1 && (p.revents & POLLOUT)) {
		ssize_t n = write(s->out_fd, s->line, s->n);
		(void)n;
	}
	s->n = 0;
}

static void transmit(struct serial *s, uint8_t v)
{
	if (s->mcr & MCR_LOOP)
		return;
	s->line[s->n++] = (char)v;
	if (v == '\n' || s->n == sizeof(s->line))
		flush(s);
}

/* The holding register is always empty again at once; says so where that was asked for. */
static void thr_empty(struct serial *s)
{
	const uint64_t one = 1;

	s->thr_empty = s->ier & IER_THRI;
	if (s->thr_empty) {
		ssize_t n = write(s->irq_fd, &one, sizeof(one));
		(void)n;
	}
}

/* Reading it acknowledges the one interrupt that there is. */
static uint8_t read_iir(struct serial *s)
{
	uint8_t v = s->thr_empty ? IIR_THRI : IIR_NONE;
	s->thr_empty = false;
	return v;
}

/* Loop mode shows the modem outputs as inputs: by this Linux recognises the chip. */
static uint8_t read_msr(const struct serial *s)
{
	if (!(s->mcr & MCR_LOOP))
		return MSR_READY;
	return (uint8_t)((s->mcr & 0x02) << 3 | (s->mcr & 0x01) << 5 | (s->mcr & 0x0c) << 4);
}

uint8_t serial_read(struct serial *s, unsigned reg)
{
	uint8_t v = 0;

	pthread_mutex_lock(&s->lock);
	bool dlab = s->lcr & LCR_DLAB;
	switch (reg) {
	case RBR_THR:
		v = dlab ? s->dll : 0;
		break;
	case IER:
		v = dlab ? s->dlm : s->ier;
		break;
	case IIR_FCR:
		v = read_iir(s);
		break;
	case LCR:
		v = s->lcr;
		break;
	case MCR:
		v = s->mcr;
		break;
	case LSR:
		v = LSR_THRE_TEMT;
		break;
	case MSR:
		v = read_msr(s);
		break;
	case SCR:
		v = s->scr;
		break;
	default:
		break;
	}
	pthread_mutex_unlock(&s->lock);
	return v;
}

static void write_data(struct serial *s, uint8_t v)
{
	if (s->lcr & LCR_DLAB) {
		s->dll = v;
		return;
	}
	transmit(s, v);
	thr_empty(s);
}

static void write_ier(struct serial *s, uint8_t v)
{
	if (s->lcr & LCR_DLAB) {
		s->dlm = v;
		return;
	}
	bool wanted = s->ier & IER_THRI;
	s->ier = v & IER_BITS;
	if (!wanted || !(v & IER_THRI))
		thr_empty(s);
}

void serial_write(struct serial *s, unsigned reg, uint8_t v)
{
	pthread_mutex_lock(&s->lock);
	switch (reg) {
	case RBR_THR:
		write_data(s, v);
		break;
	case IER:
		write_ier(s, v);
		break;
	case LCR:
		s->lcr = v;
		break;
	case MCR:
		s->mcr = v & MCR_BITS;
		break;
	case SCR:
		s->scr = v;
		break;
	default: /* no FIFO to control; status registers */
		break;
	}
	pthread_mutex_unlock(&s->lock);
}

void serial_flush(struct serial *s)
{
	pthread_mutex_lock(&s->lock);
	if (s->out_fd >= 0)
		flush(s);
	pthread_mutex_unlock(&s->lock);
}
