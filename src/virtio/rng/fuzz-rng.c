/* SPDX-License-Identifier: MIT */
/*
 * The entropy device and a hostile guest. Steps as in fuzz-guest.h, and 10: the clock goes on by a << flags % 32
 * nanoseconds. Checked: the bucket never holds more than it may, and nothing is drawn that was not in it.
 */
#include "fuzz-guest.h"
#include "rng/internal.h"

enum { BURST = 2048, PER_SECOND = 65536 };

static uint64_t clock_ns;

static uint64_t fake_clock(void)
{
	return clock_ns;
}

static void check(const struct rng_dev *r)
{
	if (r->tokens > BURST || r->dev.vqs[0].in_flight)
		__builtin_trap();
	/* It waits exactly when there is something left to be done that cannot be paid. */
	if (r->waiting && r->tokens >= RNG_COST_MIN)
		__builtin_trap();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_guest g;
	struct loop *loop;
	struct rng_dev *r;

	clock_ns = 1;
	if (loop_new(&loop) < 0 || rng_new(loop, &r) < 0)
		abort();
	rng_set_limits(r, BURST, PER_SECOND, 0, fake_clock);
	fuzz_guest_init(&g, loop, rng_device(r));
	for (size_t at = 0; at + FUZZ_STEP <= size; at += FUZZ_STEP) {
		const uint8_t *s = data + at;
		if (s[0] % (FUZZ_STEPS + 1) == FUZZ_STEPS)
			clock_ns += (uint64_t)fuzz_u16(s + 4) << (s[3] % 32);
		else
			fuzz_guest_step(&g, s);
		loop_turn(loop, 0);
		check(r);
	}
	rng_free(r);
	fuzz_guest_done(&g);
	loop_free(loop);
	return 0;
}
