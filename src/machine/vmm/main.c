/* SPDX-License-Identifier: MIT */
/*
 * a3s-box-vmm: the monitor that holds one guest. Started by the supervisor (../kvm.c) with everything it needs as open
 * descriptors (protocol.h).
 *
 * THEORY OF OPERATION
 *
 * The order of the start is what keeps a hostile guest in: /dev/kvm and the vsock folder are the last things reached
 * by a name; then the jail closes; only then are threads made, each of which takes its filter before it
 * touches anything of the guest's; and the processors, made in a paused state, begin when all of it holds.
 *
 * The main thread runs the loop: control socket and all devices but the disks. The guest's reset or power-off is the
 * end of the process.
 */
#include <fcntl.h>
#include <getopt.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/io.h"
#include "base/log.h"
#include "base/units.h"
#include "vmm.h"

enum {
	DESCRIPTORS_MAX = 4096, /* the vsock device's connections, above all */
	/* Beside the guest's: half of it for 1024 such connections, with 256 KiB under way in a buffer of twice that. */
	OWN_MEMORY_MIB = 1024,
};
/* Each parameter's reason is in kernel/BOOT.md. */
#define CMDLINE "reboot=t tsc=reliable dummy.numdummies=0 rcupdate.rcu_expedited=1 swiotlb=noforce"
static const char cmdline[] = CMDLINE " quiet console=hvc0 8250.nr_uarts=0";
static const char cmdline_serial[] = CMDLINE " earlyprintk=ttyS0 console=ttyS0";

static int usage(void)
{
	fprintf(stderr, "a3s-box-vmm: started by a3s-box for each running box; it has no use of its own\n");
	return 125;
}

static int parse_disks(struct vmm_options *o, const char *s)
{
	for (; *s; s++) {
		if (o->n_disks == MACHINE_DISKS_MAX || (*s != 'r' && *s != 'w'))
			return -EINVAL;
		o->read_only[o->n_disks++] = *s == 'r';
	}
	return 0;
}

/* MAC,MTU,LINKS: as usual, bytes, bits of the links whose peers are inherited. */
static int parse_net(struct vmm_options *o, const char *s)
{
	uint64_t mtu, links;
	char *end;

	for (unsigned i = 0; i < sizeof(o->net.mac); i++, s = end + 1) {
		o->net.mac[i] = (uint8_t)strtoul(s, &end, 16);
		if (end != s + 2 || *end != (i + 1 < sizeof(o->net.mac) ? ':' : ','))
			return -EINVAL;
	}
	const char *comma = strchr(s, ',');
	if (!comma)
		return -EINVAL;
	char text[8];
	if (snprintf(text, sizeof(text), "%.*s", (int)(comma - s), s) >= (int)sizeof(text) ||
		parse_u64(text, UINT16_MAX, &mtu) < 0 || mtu == 0 ||
		parse_u64(comma + 1, (1u << NET_LINKS_MAX) - 1, &links) < 0)
		return -EINVAL;
	o->net.mtu = (uint16_t)mtu;
	o->net.vnet_hdr = true;
	o->links = (unsigned)links;
	return 0;
}

static int parse_options(int argc, char **argv, struct vmm_options *o)
{
	static const struct option options[] = {{"vcpus", required_argument, NULL, 'c'},
		{"mem-mib", required_argument, NULL, 'm'}, {"disks", required_argument, NULL, 'd'},
		{"started", required_argument, NULL, 's'}, {"serial", no_argument, NULL, 'S'},
		{"restore", no_argument, NULL, 'r'}, {"name", required_argument, NULL, 'n'},
		{"net", required_argument, NULL, 'N'}, {"fs", required_argument, NULL, 'f'},
		{NULL, 0, NULL, 0}};
	uint64_t vcpus = 0, mib = 0;
	int opt, r = 0;

	while (r == 0 && (opt = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (opt) {
		case 'c':
			r = parse_u64(optarg, MACHINE_VCPUS_MAX, &vcpus);
			break;
		case 'm':
			r = parse_u64(optarg, MACHINE_MEM_MAX >> 20, &mib);
			break;
		case 'd':
			r = parse_disks(o, optarg);
			break;
		case 's':
			r = parse_u64(optarg, UINT64_MAX, &o->started_ns);
			break;
		case 'S':
			o->serial = true;
			break;
		case 'r':
			o->restore = true;
			break;
		case 'N':
			r = parse_net(o, optarg);
			break;
		case 'f':
			o->fs_tag = optarg;
			r = strlen(optarg) > VMM_FS_TAG_MAX ? -EINVAL : 0;
			break;
		case 'n': /* for those who list processes */
			break;
		default:
			r = -EINVAL;
		}
	}
	o->vcpus = (unsigned)vcpus;
	o->mem_bytes = mib << 20;
	/* Memory of a restored machine is a file that is nobody else's to write to. */
	bool both = o->fs_tag && o->restore;
	return r < 0 || optind != argc || !vcpus || !mib || both ? -EINVAL : 0;
}

static int filter_vcpu_thread(void *data)
{
	return jail_filter(JAIL_VCPU);
}

static void on_end(void *data, const char *why)
{
	struct vmm *v = data;

	if (why)
		log_error("%s", why);
	loop_quit(v->loop, why != NULL);
}

/* The machine without threads, and all that has a name. */
static int open_all(struct vmm *v, struct err *e)
{
	const int restore_mem = vmm_fd_restore(&v->o) + 1;
	CLEANUP_CLOSE int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);

	if (kvm < 0)
		return err_sys(e, -errno, "/dev/kvm");
	int r = loop_new(&v->loop);
	if (r == 0)
		r = loop_allow_calls(v->loop);
	if (r < 0)
		return err_sys(e, r, "event loop");
	const struct vm_config c = {.kvm_fd = kvm,
		.vcpus = v->o.vcpus,
		.mem_bytes = v->o.mem_bytes,
		.shared_memory = v->o.fs_tag != NULL,
		.restore_mem_fd = v->o.restore ? restore_mem : -1,
		.serial_fd = v->o.serial ? STDOUT_FILENO : -1};
	r = vm_new(&c, &v->vm, e);
	return r < 0 ? r : vmm_open_vsock(v, e);
}

static int confine(struct vmm *v, struct err *e)
{
	struct jail_config c = {.file_bytes_max = v->o.mem_bytes,
		.descriptors_max = DESCRIPTORS_MAX,
		.memory_max = v->o.mem_bytes + ((uint64_t)OWN_MEMORY_MIB << 20)};
	struct stat st;

	/* The largest file that we write: a disk, none of which grows, or the memory of a saved machine. */
	for (unsigned i = 0; i < v->o.n_disks; i++) {
		if (fstat(VMM_FD_DISKS + (int)i, &st) == 0 && (uint64_t)st.st_size > c.file_bytes_max)
			c.file_bytes_max = (uint64_t)st.st_size;
	}

	jail_enter(&c, &v->status);
	int r = jail_filters_prepare(&v->status);
	return r < 0 ? err_sys(e, r, "system call filter") : 0;
}

static int fill(struct vmm *v, struct err *e)
{
	int r = vmm_add_devices(v, e);

	if (r < 0)
		return r;
	if (v->o.restore)
		r = vm_restore(v->vm, vmm_fd_restore(&v->o), e);
	else
		r = vm_load(v->vm, VMM_FD_KERNEL, VMM_FD_INITRD, v->o.serial ? cmdline_serial : cmdline, e);
	close(VMM_FD_KERNEL);
	close(VMM_FD_INITRD);
	if (v->o.restore) {
		close(vmm_fd_restore(&v->o));
		close(vmm_fd_restore(&v->o) + 1);
	}
	return r;
}

static int launch(struct vmm *v, struct err *e)
{
	const struct vm_start s = {.loop = v->loop,
		.on_thread = filter_vcpu_thread,
		.on_end = on_end,
		.data = v,
		.paused = true};
	int r = vm_start(v->vm, &s, e);

	if (r == 0)
		r = vmm_control_start(v, e);
	if (r < 0)
		return r;
	r = jail_filter(JAIL_LOOP);
	if (r < 0)
		return err_sys(e, r, "system call filter");
	vmm_control_ready(v);
	vm_resume(v->vm);
	return 0;
}

int main(int argc, char **argv)
{
	struct vmm v = {0};
	struct err e = {0};

	log_init("a3s-box-vmm");
	if (parse_options(argc, argv, &v.o) < 0)
		return usage();
	signal(SIGPIPE, SIG_IGN);
	mallopt(M_ARENA_MAX, 1); /* threads allocate nothing; an arena each would only be memory */
	int r = open_all(&v, &e);
	if (r == 0)
		r = confine(&v, &e);
	if (r == 0)
		r = fill(&v, &e);
	if (r == 0)
		r = launch(&v, &e);
	if (r < 0) {
		log_error("%s", e.msg);
		_exit(1); /* there is nothing to take apart that the kernel does not, and the jail would be in the way */
	}
	r = loop_run(v.loop);
	loop_source_free(v.control_io); /* nothing is answered any more: what it would be about goes now */
	vm_stop(v.vm);
	vmm_drain(&v);
	_exit(r != 0);
}
