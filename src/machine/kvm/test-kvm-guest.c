/* SPDX-License-Identifier: MIT */
#include "kvm/test-kvm-guest.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <elf.h>
#include <fcntl.h>
#include <sys/mman.h>

#include "base/io.h"
#include "kvm/x86/params.h"

int guest_setup(void **state)
{
	struct guest *g = calloc(1, sizeof(*g));
	int fds[2];

	if (!g || loop_new(&g->loop) < 0 || loop_allow_calls(g->loop) < 0 ||
		pipe2(fds, O_CLOEXEC | O_NONBLOCK) < 0)
		return -1;
	g->out = fds[0];
	g->out_write = fds[1];
	g->vcpus = 1;
	g->kvm_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (g->kvm_fd < 0)
		print_message("# /dev/kvm: %s\n", strerror(errno));
	*state = g;
	return 0;
}

void guest_end(struct guest *g)
{
	if (g->vm)
		vm_stop(g->vm);
	virtio_mmio_free(g->mmio);
	g->mmio = NULL;
	vm_free(g->vm);
	g->vm = NULL;
	g->ended = false;
	g->n_ended = g->n_paused = g->n_threads = 0;
}

int guest_teardown(void **state)
{
	struct guest *g = *state;

	guest_end(g);
	loop_free(g->loop);
	close(g->out);
	close(g->out_write);
	close_fd(&g->kvm_fd);
	free(g);
	return 0;
}

static void check(int r, const struct err *e)
{
	if (r < 0)
		fail_msg("%s", e->msg);
}

void guest_new(struct guest *g, int restore_fd)
{
	struct vm_config c = {.kvm_fd = g->kvm_fd,
		.vcpus = g->vcpus,
		.mem_bytes = GUEST_MEM,
		.restore_mem_fd = restore_fd,
		.serial_fd = g->out_write};
	struct err e;

	if (g->kvm_fd < 0)
		skip();
	check(vm_new(&c, &g->vm, &e), &e);
}

/* ---- a device that does nothing, and leaves its kicks to the test ---- */

static void dev_read_config(struct virtio_device *d, uint32_t off, void *buf, uint32_t len)
{
	memset(buf, 0x42, len);
}

static void dev_queue(struct virtio_device *d, unsigned queue)
{
}

static void dev_reset(struct virtio_device *d)
{
	struct guest *g = (struct guest *)(void *)((char *)d - offsetof(struct guest, dev));
	g->n_resets++;
}

static const struct virtio_device_ops dev_ops = {.read_config = dev_read_config,
	.queue_started = dev_queue,
	.queue_stopping = dev_queue,
	.queue_notify = dev_queue,
	.reset = dev_reset};

void guest_add_device(struct guest *g)
{
	struct err e;

	g->dev = (struct virtio_device){.ops = &dev_ops,
		.id = VIRTIO_ID_ENTROPY,
		.features = VIRTIO_F_VERSION_1,
		.n_queues = 2,
		.own_threads = true};
	assert_int_equal(virtio_mmio_new(g->loop, &g->dev, vm_mem(g->vm), &g->mmio), 0);
	check(vm_add_device(g->vm, g->mmio, &e), &e);
}

/* ---- running ---- */

/* The fourth GiB of the address space, mapped to itself in pages of 2 MiB. */
static void map_devices(struct guest *g)
{
	enum { DIRECTORY = 0xf000 };
	uint64_t *upper = guest_mem_at(vm_mem(g->vm), PARAMS_PAGE_TABLES + VM_PAGE, VM_PAGE);
	uint64_t *dir = guest_mem_at(vm_mem(g->vm), DIRECTORY, VM_PAGE);

	upper[3] = DIRECTORY | 3;
	for (uint64_t i = 0; i < 512; i++)
		dir[i] = (3ull << 30) + (i << 21) + 0x83;
}

void guest_load(struct guest *g, const uint8_t *code, size_t len)
{
	struct {
		Elf64_Ehdr h;
		Elf64_Phdr p;
	} file = {.h = {.e_ident = {0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, EV_CURRENT},
			  .e_type = ET_EXEC,
			  .e_machine = EM_X86_64,
			  .e_entry = GUEST_CODE,
			  .e_phoff = sizeof(Elf64_Ehdr),
			  .e_phentsize = sizeof(Elf64_Phdr),
			  .e_phnum = 1},
		.p = {.p_type = PT_LOAD,
			.p_offset = sizeof(file),
			.p_paddr = GUEST_CODE,
			.p_filesz = len,
			.p_memsz = len}};
	CLEANUP_CLOSE int fd = memfd_create("kernel", MFD_CLOEXEC);
	struct err e;

	assert_int_equal(io_write_full(fd, &file, sizeof(file)), 0);
	assert_int_equal(io_write_full(fd, code, len), 0);
	check(vm_load(g->vm, fd, -1, "test", &e), &e);
	map_devices(g);
}

static void on_end(void *data, const char *why)
{
	struct guest *g = data;
	g->ended = true;
	g->n_ended++;
	g->why = why;
}

static int on_thread(void *data)
{
	struct guest *g = data;
	__atomic_fetch_add(&g->n_threads, 1, __ATOMIC_RELAXED);
	return g->thread_result;
}

void guest_start(struct guest *g, bool paused)
{
	const struct vm_start s = {
		.loop = g->loop, .on_thread = on_thread, .on_end = on_end, .data = g, .paused = paused};
	struct err e;

	check(vm_start(g->vm, &s, &e), &e);
}

void guest_boot(struct guest *g, const uint8_t *code, size_t len)
{
	guest_new(g, -1);
	guest_load(g, code, len);
	guest_start(g, false);
}

void guest_await(struct guest *g, const bool *flag)
{
	uint64_t limit = time_mono_ns() + GUEST_LIMIT_MS * 1000000ull;

	while (!*flag) {
		if (time_mono_ns() > limit)
			fail_msg("nothing has happened for %d ms", GUEST_LIMIT_MS);
		assert_int_equal(loop_turn(g->loop, 100), 0);
	}
}

void guest_await_end(struct guest *g)
{
	guest_await(g, &g->ended);
	assert_int_equal(g->n_ended, 1);
}

struct pausing {
	struct guest *g;
	bool done;
};

static void on_paused(void *data)
{
	struct pausing *p = data;
	p->done = true;
	p->g->n_paused++;
}

void guest_pause(struct guest *g)
{
	struct pausing p = {.g = g};

	vm_pause(g->vm, on_paused, &p);
	assert_false(p.done); /* from the loop only */
	guest_await(g, &p.done);
}

uint64_t guest_word(struct guest *g, unsigned i)
{
	const uint64_t *w = guest_mem_at(vm_mem(g->vm), GUEST_DATA, VM_PAGE);
	return __atomic_load_n(&w[i], __ATOMIC_SEQ_CST);
}

void guest_expect_output(struct guest *g, const char *text)
{
	char got[1024] = "";
	ssize_t n = read(g->out, got, sizeof(got) - 1);

	if (n < 0)
		assert_int_equal(errno, EAGAIN);
	assert_string_equal(got, text);
}

uint64_t guest_exits(const struct guest *g, enum machine_exit kind)
{
	uint64_t exits[EXIT_N];

	vm_exits(g->vm, exits);
	return exits[kind];
}
