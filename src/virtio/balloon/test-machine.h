/* SPDX-License-Identifier: MIT */
/* For tests: a guest with a balloon, and a host that notes what it is given. */
#ifndef BALLOON_TEST_MACHINE_H
#define BALLOON_TEST_MACHINE_H

#include "test-mmio-driver.h"
#include "virtio/balloon.h"

enum { INFLATE = 0, DEFLATE = 1, STATS = 2, REPORT = 3, REPORT_FIXED = 4 };
#define F_STATS_VQ	 (1ULL << 1)
#define F_DEFLATE_ON_OOM (1ULL << 2)
#define F_REPORTING	 (1ULL << 5)
#define ALL		 (F_STATS_VQ | F_DEFLATE_ON_OOM | F_REPORTING | VIRTIO_F_INDIRECT_DESC)
enum { NUM_PAGES = 0, ACTUAL = 4 };
enum { PAGE = 4096, PAGES = TDRV_MEM_LEN / PAGE, GIVEN_MAX = 4096 };
/* Pages that the test driver's rings and buffers do not use. */
enum { FREE_AT = PAGES / 2 };
#define PFN(page) ((uint32_t)(TDRV_GPA / PAGE + (page)))

struct machine {
	struct loop *loop;
	struct balloon_dev *b;
	struct tdrv d;
	unsigned n_given;
	struct {
		uint64_t gpa, len;
	} given[GIVEN_MAX];
	uint8_t *extra; /* a second region, mapped elsewhere, that follows on the first one in the guest */
};

struct stat_entry { /* 5.5.6.3 */
	uint16_t tag;
	uint64_t val;
} __attribute__((packed));

/* As the monitor would: the memory is zero afterwards, whatever it was. data is the machine. */
void on_discard(void *data, uint64_t gpa, uint64_t len);
struct machine *machine_new(void);
int setup(void **state);
void machine_free(struct machine *m);
int teardown(void **state);
void add_region(struct machine *m);
/* Array of page numbers for queue q; not notified. Returns its head. */
uint16_t name_pages(struct machine *m, unsigned q, const uint32_t *pfns, unsigned n);
/* One request, until it comes back. */
void inflate(struct machine *m, const uint32_t *pfns, unsigned n);
/* Free memory, at an offset behind page FREE_AT. */
struct tdrv_buf range(uint64_t off, uint32_t len);
void report(struct machine *m, unsigned q, const struct tdrv_buf *bufs, unsigned n);
void tell_stats(struct machine *m, const struct stat_entry *e, size_t len);
/* The i-th range that was given back. */
void expect_given(struct machine *m, unsigned i, uint32_t pfn, unsigned pages);
/* n were, and are forgotten now. */
void expect_no_more(struct machine *m, unsigned n);
uint64_t refused(struct machine *m);

#endif
