/* SPDX-License-Identifier: MIT */
/*
 * The balloon and a hostile guest. Steps as in fuzz-guest.h, and 10: figures are asked for; 11: the target becomes a
 * pages. What is discarded is zeroed, be it the device's own rings. Checked: every range is whole pages of one region;
 * a turn's work is bounded; no buffer is kept but one of statistics; figures keep their bounds.
 */
#include "fuzz-guest.h"
#include "virtio/balloon.h"

enum { PAGE = 4096, STATS = 2, GIVEN_MAX = 3 * (1024 + VQ_SIZE_MAX) };
#define MEM_BYTES (2 * FUZZ_REGION)

struct world {
	struct fuzz_guest g;
	struct balloon_dev *b;
	unsigned given; /* in this turn */
};

static void on_discard(void *data, uint64_t gpa, uint64_t len)
{
	struct world *w = data;
	void *p = guest_mem_at(&w->g.gm, gpa, len);

	if (!p || len == 0 || len % PAGE || gpa % PAGE || ++w->given > GIVEN_MAX)
		__builtin_trap();
	memset(p, 0, len);
}

static void check(struct world *w)
{
	for (unsigned q = 0; q < w->g.dev->n_queues; q++) {
		const struct vq *vq = &w->g.dev->vqs[q];
		if (!vq->broken && vq->in_flight > (q == STATS ? 1 : 0))
			__builtin_trap();
	}
	w->given = 0;
}

static void step(struct world *w, const uint8_t *s)
{
	struct balloon_stats st;

	switch (s[0] % (FUZZ_STEPS + 2)) {
	case FUZZ_STEPS:
		balloon_stats(w->b, &st);
		if (st.actual > MEM_BYTES || st.target > MEM_BYTES)
			__builtin_trap();
		break;
	case FUZZ_STEPS + 1:
		(void)balloon_set_target(w->b, (uint64_t)fuzz_u16(s + 4) * PAGE);
		break;
	default:
		fuzz_guest_step(&w->g, s);
	}
	loop_turn(w->g.loop, 0);
	check(w);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct world w = {0};
	const struct balloon_config conf = {.mem_bytes = MEM_BYTES, .discard = on_discard, .data = &w};
	struct loop *loop;

	if (loop_new(&loop) < 0 || balloon_new(loop, &conf, &w.b) < 0)
		abort();
	fuzz_guest_init(&w.g, loop, balloon_device(w.b));
	for (size_t at = 0; at + FUZZ_STEP <= size; at += FUZZ_STEP)
		step(&w, data + at);
	balloon_free(w.b);
	fuzz_guest_done(&w.g);
	loop_free(loop);
	return 0;
}
