/*
 * PID 1 of the boot benchmark: says on the first serial port that user space has begun, then
 * restarts the machine, which ends QEMU under -no-reboot.
 *
 * It writes to the port itself, not to /dev/console, so that neither kernel's console driver is
 * part of the measurement and both may boot silently. No C library: nothing but the kernel's work
 * is measured.
 */
#include <asm/unistd.h>

#define COM1			 0x3f8
#define LINUX_REBOOT_MAGIC1	 0xfee1deadL
#define LINUX_REBOOT_MAGIC2	 672274793L
#define LINUX_REBOOT_CMD_RESTART 0x01234567L

static long call3(long nr, long a, long b, long c)
{
	long ret;

	__asm__ volatile("syscall" : "=a"(ret) : "0"(nr), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
	return ret;
}

__attribute__((noreturn, used)) void _start(void)
{
	static const char mark[] = "\nA3S-PID1\n";

	if (call3(__NR_ioperm, COM1, 8, 1) == 0) {
		for (const char *p = mark; *p; p++)
			__asm__ volatile("outb %0, %1" : : "a"(*p), "Nd"((unsigned short)COM1));
	}
	call3(__NR_reboot, LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2, LINUX_REBOOT_CMD_RESTART);
	/* Still here: the machine cannot restart. The benchmark's time limit tells the user. */
	for (;;)
		call3(__NR_pause, 0, 0, 0);
}
