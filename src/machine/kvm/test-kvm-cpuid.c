/* SPDX-License-Identifier: MIT */
/* The guest's CPUID, made from tables such as KVM gives on processors of Intel and AMD. No KVM. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "kvm/x86/cpuid.h"

#define INDEXED KVM_CPUID_FLAG_SIGNIFCANT_INDEX
enum { TSC_KHZ = 2600000 };

static const struct kvm_cpuid_entry2 intel[] = {
	{.function = 0, .eax = 0x20, .ebx = 0x756e6547, .ecx = 0x6c65746e, .edx = 0x49656e69},
	{.function = 1, .eax = 0x606a6, .ebx = 0x17200800, .ecx = 0xffffffff, .edx = 0xffffffff},
	{.function = 4, .index = 0, .flags = INDEXED, .eax = 0x7c004121, .ebx = 1},
	{.function = 4, .index = 2, .flags = INDEXED, .eax = 0x7c004143, .ebx = 1},
	{.function = 4, .index = 3, .flags = INDEXED, .eax = 0x7c0fc163, .ebx = 1},
	{.function = 4, .index = 4, .flags = INDEXED},
	{.function = 5, .eax = 0x40, .ebx = 0x40, .ecx = 3},
	{.function = 6, .eax = 4},
	{.function = 7,
		.index = 0,
		.flags = INDEXED,
		.ebx = 0xffffffff,
		.ecx = 0xffffffff,
		.edx = 0xffffffff},
	{.function = 0xa, .eax = 0x07300805, .edx = 0x603},
	{.function = 0xb, .index = 0, .flags = INDEXED, .eax = 1, .ebx = 2, .ecx = 0x100, .edx = 0x17},
	{.function = 0xb, .index = 1, .flags = INDEXED, .eax = 7, .ebx = 64, .ecx = 0x201, .edx = 0x17},
	{.function = 0xd, .index = 0, .flags = INDEXED, .eax = 0x602e7, .ebx = 0x340, .ecx = 0x2b00},
	{.function = 0x12, .index = 0, .flags = INDEXED, .eax = 3},
	{.function = 0x15},
	{.function = 0x1d, .index = 0, .flags = INDEXED, .eax = 1},
	{.function = 0x1f, .index = 0, .flags = INDEXED, .eax = 1, .ebx = 2, .ecx = 0x100},
	{.function = 0x40000000, .eax = 0x40000001, .ebx = 0x4b4d564b, .ecx = 0x564b4d56, .edx = 0x4d},
	{.function = 0x40000001, .eax = 0x01007afb},
	{.function = 0x80000000, .eax = 0x80000008},
	{.function = 0x80000001, .ecx = 0x121, .edx = 0x2c100800},
	{.function = 0x80000007, .edx = 0x100},
	{.function = 0x80000008, .eax = 0x302e, .ecx = 0x5555},
};

static const struct kvm_cpuid_entry2 amd[] = {
	{.function = 0, .eax = 0x10, .ebx = 0x68747541, .ecx = 0x444d4163, .edx = 0x69746e65},
	{.function = 1, .eax = 0xa00f11, .ebx = 0x05400800, .ecx = 0x7ed8320b, .edx = 0x178bfbff},
	{.function = 7, .index = 0, .flags = INDEXED, .ebx = 0x219c97a9, .ecx = 0x40069c, .edx = 0x10},
	{.function = 0x80000000, .eax = 0x80000021},
	{.function = 0x80000001, .eax = 0xa00f11, .ecx = 0x75c237ff, .edx = 0x2fd3fbff},
	{.function = 0x80000007, .edx = 0x100},
	{.function = 0x80000008, .eax = 0x3030, .ecx = 0x707f},
	{.function = 0x8000000a, .eax = 1, .ebx = 0x8000, .edx = 0x1bcff},
	{.function = 0x8000001d, .index = 0, .flags = INDEXED, .eax = 0x4121},
	{.function = 0x8000001d, .index = 3, .flags = INDEXED, .eax = 0x3c163},
	{.function = 0x8000001e, .eax = 5, .ebx = 0x102, .ecx = 0x301},
	{.function = 0x8000001f, .eax = 0x1780f, .ebx = 0x173},
};

static struct cpuid_table table(const struct kvm_cpuid_entry2 *e, size_t n, unsigned n_vcpus)
{
	struct cpuid_table t = {.n = (uint32_t)n};
	const struct cpuid_machine m = {.n_vcpus = n_vcpus, .tsc_khz = TSC_KHZ, .tsc_deadline = true};

	memcpy(t.e, e, n * sizeof(*e));
	cpuid_prepare(&t, &m);
	return t;
}

static struct kvm_cpuid_entry2 leaf(struct cpuid_table *t, uint32_t function, uint32_t index)
{
	const struct kvm_cpuid_entry2 *e = cpuid_find(t, function, index);
	return e ? *e : (struct kvm_cpuid_entry2){0};
}

static bool bit(uint32_t v, unsigned n)
{
	return v >> n & 1;
}

static void what_a_box_does_not_get_is_hidden(void **state)
{
	struct cpuid_table t = table(intel, ARRAY_LEN(intel), 2);
	struct kvm_cpuid_entry2 e = leaf(&t, 1, 0);

	assert_false(bit(e.ecx, 3));  /* MONITOR */
	assert_false(bit(e.ecx, 5));  /* VMX */
	assert_false(bit(e.ecx, 15)); /* PDCM */
	assert_false(bit(e.ecx, 27)); /* OSXSAVE */
	assert_false(bit(e.edx, 21)); /* DS */
	assert_true(bit(e.ecx, 21));  /* x2APIC */
	assert_true(bit(e.ecx, 24));  /* TSC deadline */
	assert_true(bit(e.ecx, 26));  /* XSAVE */
	assert_true(bit(e.ecx, 30));  /* RDRAND */
	assert_true(bit(e.ecx, 31));  /* hypervisor */
	e = leaf(&t, 7, 0);
	assert_false(bit(e.ebx, 2));  /* SGX */
	assert_false(bit(e.edx, 24)); /* AMX */
	assert_true(bit(e.ebx, 5));   /* AVX2 */
	assert_int_equal(leaf(&t, 0xd, 0).eax, 0x2e7);
	assert_int_equal(leaf(&t, 5, 0).ecx, 0);
	assert_int_equal(leaf(&t, 0xa, 0).eax, 0);
	assert_int_equal(leaf(&t, 0x12, 0).eax, 0);
	assert_int_equal(leaf(&t, 0x1d, 0).eax, 0);
	assert_int_equal(leaf(&t, 6, 0).eax, 4); /* ARAT: without it Linux wants a PIT */
	assert_false(bit(leaf(&t, 0x80000007, 0).edx, 8));
	assert_int_equal(leaf(&t, 0x40000001, 0).eax, 0x01007afb);

	t = table(amd, ARRAY_LEN(amd), 2);
	e = leaf(&t, 0x80000001, 0);
	assert_false(bit(e.ecx, 2));  /* SVM */
	assert_false(bit(e.ecx, 23)); /* counters */
	assert_false(bit(e.ecx, 29)); /* MWAITX */
	assert_true(bit(e.ecx, 22));  /* TOPOEXT */
	assert_int_equal(leaf(&t, 0x8000000a, 0).edx, 0);
	assert_int_equal(leaf(&t, 0x8000001f, 0).eax, 0);
}

static void deadline_timer_follows_the_capability(void **state)
{
	struct cpuid_table t = {.n = ARRAY_LEN(intel)};
	const struct cpuid_machine m = {.n_vcpus = 1};

	memcpy(t.e, intel, sizeof(intel));
	cpuid_prepare(&t, &m);
	assert_false(bit(leaf(&t, 1, 0).ecx, 24));
	assert_int_equal(leaf(&t, 0x15, 0).ebx, 0); /* frequency not known */
}

static void topology_is_one_package_of_cores(void **state)
{
	struct cpuid_table t = table(intel, ARRAY_LEN(intel), 6);

	for (uint32_t function = 0xb; function <= 0x1f; function += 0x1f - 0xb) {
		cpuid_identify(&t, 5);
		struct kvm_cpuid_entry2 thread = leaf(&t, function, 0), core = leaf(&t, function, 1);
		assert_int_equal(thread.eax, 0);
		assert_int_equal(thread.ebx, 1);
		assert_int_equal(thread.ecx, 0x100);
		assert_int_equal(thread.edx, 5);
		assert_int_equal(core.eax, 3); /* bits of APIC ID for 6 cores */
		assert_int_equal(core.ebx, 6);
		assert_int_equal(core.ecx, 0x201);
		assert_int_equal(core.edx, 5);
		assert_int_equal(leaf(&t, function, 2).ebx, 0);
	}
	struct kvm_cpuid_entry2 e = leaf(&t, 1, 0);
	assert_int_equal(e.ebx >> 24, 5);
	assert_int_equal(e.ebx >> 16 & 0xff, 8);
	assert_int_equal(e.ebx & 0xffff, 0x800); /* the host's APIC ID is gone, CLFLUSH's line is not */
	assert_true(bit(e.edx, 28));
	/* Caches: levels 1 and 2 private, 3 of all; 8 IDs of cores in the package. */
	assert_int_equal(leaf(&t, 4, 0).eax, 7u << 26 | 0x121);
	assert_int_equal(leaf(&t, 4, 2).eax, 7u << 26 | 0x143);
	assert_int_equal(leaf(&t, 4, 3).eax, 7u << 26 | 7u << 14 | 0x163);
	assert_int_equal(leaf(&t, 4, 4).eax, 0);
}

static void topology_of_amd(void **state)
{
	struct cpuid_table t = table(amd, ARRAY_LEN(amd), 4);

	cpuid_identify(&t, 3);
	assert_int_equal(leaf(&t, 0x80000008, 0).ecx, 0x2003);
	assert_int_equal(leaf(&t, 0x80000008, 0).eax, 0x3030);
	struct kvm_cpuid_entry2 e = leaf(&t, 0x8000001e, 0);
	assert_int_equal(e.eax, 3);
	assert_int_equal(e.ebx, 3);
	assert_int_equal(e.ecx, 0);
	assert_int_equal(leaf(&t, 0x8000001d, 0).eax, 0x121);
	assert_int_equal(leaf(&t, 0x8000001d, 3).eax, 3u << 14 | 0x163);
	assert_int_equal(leaf(&t, 0xb, 1).ebx, 4);
	assert_int_equal(leaf(&t, 0x1f, 1).ebx, 0); /* beyond its last leaf */
	assert_int_equal(leaf(&t, 0x15, 0).eax, 0); /* Intel's */
	cpuid_identify(&t, 1);
	assert_int_equal(leaf(&t, 1, 0).ebx, 0x01040800);
}

static void one_processor_is_no_group(void **state)
{
	struct cpuid_table t = table(intel, ARRAY_LEN(intel), 1);

	cpuid_identify(&t, 0);
	assert_false(bit(leaf(&t, 1, 0).edx, 28));
	assert_int_equal(leaf(&t, 1, 0).ebx, 0x00010800);
	assert_int_equal(leaf(&t, 0xb, 1).eax, 0);
	assert_int_equal(leaf(&t, 0xb, 1).ebx, 1);
	assert_int_equal(leaf(&t, 4, 3).eax, 0x163);
}

static void frequency_is_told(void **state)
{
	struct cpuid_table t = table(intel, ARRAY_LEN(intel), 2);
	struct kvm_cpuid_entry2 e = leaf(&t, 0x15, 0);

	assert_int_equal((uint64_t)e.ecx * e.ebx / e.eax, TSC_KHZ * 1000ull);
	assert_int_equal(leaf(&t, 0x16, 0).eax, 2600);
}

static void a_full_table_does_not_overflow(void **state)
{
	struct cpuid_table t = {.n = CPUID_ENTRIES_MAX};
	const struct cpuid_machine m = {.n_vcpus = 2, .tsc_khz = TSC_KHZ};

	memcpy(t.e, intel, sizeof(intel));
	for (unsigned i = ARRAY_LEN(intel); i < CPUID_ENTRIES_MAX; i++)
		t.e[i] = (struct kvm_cpuid_entry2){.function = 0x90000000 + i};
	cpuid_prepare(&t, &m);
	assert_true(t.n <= CPUID_ENTRIES_MAX);
	assert_int_equal(leaf(&t, 0xb, 1).ebx, 2);
	struct cpuid_table none = {0};
	cpuid_prepare(&none, &m);
	cpuid_identify(&none, 1);
}

static void a_restored_guest_must_see_the_same(void **state)
{
	struct cpuid_table a = table(intel, ARRAY_LEN(intel), 2), b = a;

	assert_true(cpuid_same(&a, &b));
	cpuid_find(&b, 0x15, 0)->ebx += 3; /* measured at each boot */
	assert_true(cpuid_same(&a, &b));
	cpuid_find(&b, 7, 0)->ebx ^= 1u << 5;
	assert_false(cpuid_same(&a, &b));
	b = a;
	b.n--;
	assert_false(cpuid_same(&a, &b));
	b.n = a.n = UINT32_MAX;
	assert_false(cpuid_same(&a, &b));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_a_box_does_not_get_is_hidden),
		cmocka_unit_test(deadline_timer_follows_the_capability),
		cmocka_unit_test(topology_is_one_package_of_cores),
		cmocka_unit_test(topology_of_amd),
		cmocka_unit_test(one_processor_is_no_group),
		cmocka_unit_test(frequency_is_told),
		cmocka_unit_test(a_full_table_does_not_overflow),
		cmocka_unit_test(a_restored_guest_must_see_the_same),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
