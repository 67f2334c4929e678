/* SPDX-License-Identifier: MIT */
/*
 * The entropy device (virtio 1.2 section 5.4), fed by getrandom(2) at a bounded rate. Nothing is kept between requests,
 * so there is nothing to save with a memory snapshot; that two machines restored from one snapshot must not draw the
 * same numbers is the guest's concern (its own generator has to be seeded anew).
 */
#ifndef VIRTIO_RNG_H
#define VIRTIO_RNG_H

#include "base/loop.h"
#include "virtio/device.h"

struct rng_dev;

/* 0 or -errno. */
int rng_new(struct loop *loop, struct rng_dev **ret);
struct virtio_device *rng_device(struct rng_dev *r);
/* NULL allowed. */
void rng_free(struct rng_dev *r);
DEFINE_CLEANUP(struct rng_dev *, rng_free)

#endif
