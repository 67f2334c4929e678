/* SPDX-License-Identifier: MIT */
#include "kvm/x86/mptable.h"

#include <string.h>

#include "kvm/x86/x86.h"

/* Section 4.1, figure 4-2 */
struct floating_pointer {
	char signature[4];
	uint32_t table;
	uint8_t length; /* in 16 bytes */
	uint8_t revision, checksum, features[5];
} __attribute__((packed));

/* Section 4.2 */
struct table_header {
	char signature[4];
	uint16_t length;
	uint8_t revision, checksum;
	char oem[8], product[12];
	uint32_t oem_table;
	uint16_t oem_length, n_entries;
	uint32_t local_apic;
	uint16_t extended_length;
	uint8_t extended_checksum, reserved;
} __attribute__((packed));

/* Section 4.3 */
enum { ENTRY_PROCESSOR, ENTRY_BUS, ENTRY_IO_APIC, ENTRY_IO_INTERRUPT, ENTRY_LOCAL_INTERRUPT };
enum { INTERRUPT_INT, INTERRUPT_NMI, INTERRUPT_SMI, INTERRUPT_EXTINT };

struct processor {
	uint8_t type, apic_id, apic_version, flags;
	uint32_t signature, features, reserved[2];
} __attribute__((packed));
struct bus {
	uint8_t type, id;
	char name[6];
} __attribute__((packed));
struct io_apic {
	uint8_t type, id, version, flags;
	uint32_t address;
} __attribute__((packed));
struct interrupt {
	uint8_t type, kind;
	uint16_t flags;
	uint8_t bus, bus_irq, apic, pin;
} __attribute__((packed));

enum {
	APIC_VERSION = 0x14, /* what KVM's say of themselves */
	IO_APIC_VERSION = 0x11,
	PROCESSOR_ENABLED = 1,
	PROCESSOR_BOOT = 2,
	IO_APIC_ENABLED = 1,
	FLAGS_EDGE_HIGH =
		0x05, /* table 4-10: active high, edge-triggered; what ISA is by default, said outright */
	ALL_APICS = 0xff,
	ISA_BUS = 0
};

struct writer {
	uint8_t *at;
	struct table_header *head;
};

static void add(struct writer *w, const void *entry, size_t len)
{
	memcpy(w->at, entry, len);
	w->at += len;
	w->head->n_entries++;
}

/* The byte that makes all of them add up to 0. */
static uint8_t checksum(const void *data, size_t len)
{
	const uint8_t *p = data;
	uint8_t sum = 0;

	while (len--)
		sum += *p++;
	return (uint8_t)-sum;
}

static void add_interrupts(struct writer *w, unsigned n_vcpus, uint32_t irqs)
{
	struct interrupt i = {.type = ENTRY_IO_INTERRUPT,
		.kind = INTERRUPT_INT,
		.flags = FLAGS_EDGE_HIGH,
		.bus = ISA_BUS,
		.apic = (uint8_t)n_vcpus};
	for (unsigned irq = 0; irq < X86_IOAPIC_PINS; irq++) {
		if (irqs & 1u << irq) {
			i.bus_irq = i.pin = (uint8_t)irq;
			add(w, &i, sizeof(i));
		}
	}
	/* Local pins, as they are wired in every PC; flags 0: as is usual on that bus. */
	i = (struct interrupt){
		.type = ENTRY_LOCAL_INTERRUPT, .kind = INTERRUPT_EXTINT, .bus = ISA_BUS, .apic = ALL_APICS};
	add(w, &i, sizeof(i));
	i.kind = INTERRUPT_NMI;
	i.pin = 1;
	add(w, &i, sizeof(i));
}

_Static_assert(sizeof(struct floating_pointer) + sizeof(struct table_header) +
			       MPTABLE_VCPUS_MAX * sizeof(struct processor) + sizeof(struct bus) +
			       sizeof(struct io_apic) + (X86_IOAPIC_PINS + 2) * sizeof(struct interrupt) <=
		       MPTABLE_MAX,
	"the tables do not fit");

void mptable_write(uint8_t dst[MPTABLE_MAX], unsigned n_vcpus, uint32_t irqs)
{
	struct floating_pointer p = {
		.signature = "_MP_", .table = MPTABLE_GPA + sizeof(p), .length = 1, .revision = 4};
	struct table_header head = {.signature = "PCMP",
		.revision = 4,
		.oem = "A3SBOX  ",
		.product = "MICROVM     ",
		.local_apic = X86_LAPIC};
	struct writer w = {.at = dst + sizeof(p) + sizeof(head), .head = &head};

	memset(dst, 0, MPTABLE_MAX);
	p.checksum = checksum(&p, sizeof(p));
	memcpy(dst, &p, sizeof(p));
	for (unsigned i = 0; i < n_vcpus && i < MPTABLE_VCPUS_MAX; i++) {
		/* Family 6 with FPU and APIC: Linux asks CPUID instead. */
		struct processor cpu = {.type = ENTRY_PROCESSOR,
			.apic_id = (uint8_t)i,
			.apic_version = APIC_VERSION,
			.flags = PROCESSOR_ENABLED | (i == 0 ? PROCESSOR_BOOT : 0),
			.signature = 0x600,
			.features = 0x201};
		add(&w, &cpu, sizeof(cpu));
	}
	struct bus isa = {.type = ENTRY_BUS, .id = ISA_BUS, .name = "ISA   "};
	add(&w, &isa, sizeof(isa));
	/* IDs of local and I/O APICs must differ (section 3.6.6). */
	struct io_apic io = {.type = ENTRY_IO_APIC,
		.id = (uint8_t)n_vcpus,
		.version = IO_APIC_VERSION,
		.flags = IO_APIC_ENABLED,
		.address = X86_IOAPIC};
	add(&w, &io, sizeof(io));
	add_interrupts(&w, n_vcpus, irqs);

	head.length = (uint16_t)(w.at - (dst + sizeof(p)));
	memcpy(dst + sizeof(p), &head, sizeof(head));
	head.checksum = checksum(dst + sizeof(p), head.length);
	memcpy(dst + sizeof(p), &head, sizeof(head));
}
