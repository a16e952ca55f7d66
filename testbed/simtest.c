// SPDX-License-Identifier: GPL-2.0
// Firmware that measures how many cycles known work takes on a simulated host, and prints them on
// the debug console. It is all that runs on the machine, so that each instruction is known.
#include <stddef.h>
#include <stdint.h>

#define CPUS	16
#define LOOPS	1000000		// of two instructions
#define ROUNDS	1000
#define VECTOR	0x40

#define MSR_EFER		0xc0000080
#define  EFER_SCE		1
#define  EFER_SVME		0x1000
#define MSR_STAR		0xc0000081
#define MSR_TSC_DEADLINE	0x6e0
#define MSR_VM_HSAVE		0xc0010117

#define APIC_ID		0x20
#define APIC_EOI	0xb0
#define APIC_SPURIOUS	0xf0
#define APIC_ICR	0x300
#define  ICR_INIT_ALL	0xc4500
#define  ICR_SIPI_ALL	0xc4600
#define APIC_ICR_DEST	0x310
#define APIC_LVT_TIMER	0x320
#define  TIMER_DEADLINE	0x40000

// Of simtest-start.S, which calls these functions.
extern const char interrupt_entry[], syscall_entry[], guest[], gdt[];
void handle_interrupt(void);
void begin(uint32_t cpu);

static struct cpu {
	void (*volatile job)(void);
	volatile uint32_t interrupts, interrupted_at;
} cpus[CPUS];
static volatile uint32_t online, lock, hash;
static uint64_t idt[256];
static uint8_t vmcb[4096] __attribute__((aligned(4096)));
static uint8_t host_save[4096] __attribute__((aligned(4096)));

static uint32_t now(void)
{
	uint32_t low;

	asm volatile("rdtsc" : "=a"(low) : : "edx", "memory");
	return low;
}

static uint64_t rdmsr(uint32_t msr)
{
	uint64_t value;

	asm volatile("rdmsr" : "=A"(value) : "c"(msr));
	return value;
}

static void wrmsr(uint32_t msr, uint64_t value)
{
	asm volatile("wrmsr" : : "A"(value), "c"(msr) : "memory");
}

static volatile uint32_t *apic(uint32_t reg)
{
	return (volatile uint32_t *)(0xfee00000 + reg);
}

static uint32_t this_cpu(void)
{
	return *apic(APIC_ID) >> 24;
}

static void print_char(char c)
{
	asm volatile("outb %0, $0xe9" : : "a"(c));
}

static void print(const char *name, int32_t value)
{
	uint32_t rest = value < 0 ? -(uint32_t)value : (uint32_t)value;
	char digits[10];
	int n = 0;

	while (*name)
		print_char(*name++);
	print_char(' ');
	do
		digits[n++] = '0' + rest % 10;
	while (rest /= 10);
	if (value < 0)
		print_char('-');
	while (n)
		print_char(digits[--n]);
	print_char('\n');
}

static void pause(void)
{
	asm volatile("pause" : : : "memory");
}

// Sleep until the next interrupt, with interrupts disabled before and after.
static void halt(void)
{
	asm volatile("sti; hlt; cli" : : : "memory");
}

static void loop(uint32_t times)
{
	asm volatile("1: decl %0; jnz 1b" : "+r"(times));
}

static void send_ipi(uint32_t cpu)
{
	*apic(APIC_ICR_DEST) = cpu << 24;
	*apic(APIC_ICR) = VECTOR;
}

void handle_interrupt(void)
{
	struct cpu *cpu = &cpus[this_cpu()];

	cpu->interrupted_at = now();
	cpu->interrupts++;
	*apic(APIC_EOI) = 0;
}

static void wait_for_interrupt(void)
{
	struct cpu *cpu = &cpus[this_cpu()];
	uint32_t before = cpu->interrupts;

	while (cpu->interrupts == before)
		halt();
}

static void set_timer(uint32_t delay)
{
	uint32_t low, high;

	asm volatile("rdtsc" : "=a"(low), "=d"(high) : : "memory");
	wrmsr(MSR_TSC_DEADLINE, ((uint64_t)high << 32 | low) + delay);
}

static void start(uint32_t cpu, void (*job)(void))
{
	cpus[cpu].job = job;
	send_ipi(cpu);
}

static void wait(uint32_t cpu)
{
	while (cpus[cpu].job)
		pause();
}

static void init_cpu(void)
{
	struct {
		uint16_t limit;
		uint32_t base;
	} __attribute__((packed)) descriptor = { sizeof(idt) - 1, (uint32_t)idt };

	asm volatile("lidt %0" : : "m"(descriptor));
	*apic(APIC_SPURIOUS) = 0x1ff;
	*apic(APIC_LVT_TIMER) = TIMER_DEADLINE | VECTOR;
	asm volatile("lock incl %0" : "+m"(online));
}

static void work(void)
{
	loop(LOOPS);
}

static void answer(void)
{
	for (int i = 0; i < ROUNDS; i++) {
		wait_for_interrupt();
		send_ipi(0);
	}
}

static void spin_with_interrupts(void)
{
	struct cpu *cpu = &cpus[this_cpu()];
	uint32_t before = cpu->interrupts;

	asm volatile("sti");
	while (cpu->interrupts == before)
		;
	asm volatile("cli");
}

// A mix whose end depends on the order of all that happens.
static void mix(void)
{
	uint32_t seed = this_cpu() + 1;

	for (int i = 0; i < ROUNDS; i++) {
		seed = seed * 1664525 + 1013904223;
		while (__atomic_exchange_n(&lock, 1, __ATOMIC_ACQUIRE))
			pause();
		hash = hash * 31 + now() + seed;
		__atomic_store_n(&lock, 0, __ATOMIC_RELEASE);
		switch (seed >> 30) {
		case 0:
			set_timer(seed >> 18 & 0xfff);
			wait_for_interrupt();
			break;
		case 1:
			send_ipi((seed >> 20) % online);
			break;
		default:
			loop((seed >> 20) + 1);
		}
		asm volatile("sti; nop; cli" : : : "memory");
	}
}

static void measure_parallel(void)
{
	uint32_t begin = now();

	for (uint32_t cpu = 1; cpu < online; cpu++)
		start(cpu, work);
	work();
	for (uint32_t cpu = 1; cpu < online; cpu++)
		wait(cpu);
	print("parallel", now() - begin);
}

static void measure_ipis(void)
{
	uint32_t begin;
	int32_t sum = 0;

	start(1, answer);
	loop(100000);
	begin = now();
	for (int i = 0; i < ROUNDS; i++) {
		send_ipi(1);
		wait_for_interrupt();
	}
	print("wakeup-by-ipi", (now() - begin) / (2 * ROUNDS));
	wait(1);

	for (int i = 0; i < ROUNDS / 10; i++) {
		start(1, spin_with_interrupts);
		loop(100000);
		begin = now();
		send_ipi(1);
		wait(1);
		sum += cpus[1].interrupted_at - begin;
	}
	print("ipi", sum / (ROUNDS / 10));
}

static void measure_timers(void)
{
	uint32_t begin = now();

	set_timer(1000000);
	wait_for_interrupt();
	print("timer-all-idle", cpus[0].interrupted_at - begin);

	begin = now();
	set_timer(1000000);
	spin_with_interrupts();
	print("timer-busy", cpus[0].interrupted_at - begin);

	if (online > 1) {
		start(1, work);
		begin = now();
		set_timer(1000000);
		wait_for_interrupt();
		print("timer-other-busy", cpus[0].interrupted_at - begin);
		wait(1);
	}
}

static void measure_instructions(void)
{
	uint32_t begin = now();

	loop(LOOPS);
	print("loop", now() - begin);

	begin = now();
	for (int i = 0; i < ROUNDS; i++)
		pause();
	print("pause", (now() - begin) / ROUNDS);

	wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_SCE | EFER_SVME);
	wrmsr(MSR_STAR, (uint64_t)8 << 32 | (uint32_t)syscall_entry);
	begin = now();
	for (int i = 0; i < ROUNDS; i++)
		asm volatile("syscall" : : : "ecx", "memory");
	print("syscall", (now() - begin) / ROUNDS);
}

static void vmcb_write(uint32_t offset, uint32_t value)
{
	*(volatile uint32_t *)(vmcb + offset) = value;
}

static void vmcb_segment(uint32_t offset, uint32_t selector, uint32_t attributes)
{
	vmcb_write(offset, attributes << 16 | selector);
	vmcb_write(offset + 4, 0xffffffff);
}

static void measure_exits(void)
{
	uint32_t begin;

	vmcb_write(0x010, 3);		// intercepts VMRUN and VMMCALL
	vmcb_write(0x058, 1);		// address space
	vmcb_segment(0x400, 0x10, 0xc93);
	vmcb_segment(0x410, 0x08, 0xc9b);
	vmcb_segment(0x420, 0x10, 0xc93);
	vmcb_segment(0x430, 0x10, 0xc93);
	vmcb_write(0x464, 23);
	vmcb_write(0x468, (uint32_t)gdt);
	vmcb_write(0x4d0, EFER_SVME);
	vmcb_write(0x558, 0x11);	// CR0
	vmcb_write(0x560, 0x400);	// DR7
	vmcb_write(0x570, 2);		// flags
	vmcb_write(0x578, (uint32_t)guest);
	wrmsr(MSR_VM_HSAVE, (uint32_t)host_save);
	begin = now();
	for (int i = 0; i < ROUNDS; i++)
		asm volatile("vmrun %%eax" : : "a"(vmcb) : "memory");
	begin = now() - begin;
	asm volatile("stgi");
	// Anything but VMMCALL is an error.
	print("vmexit", *(uint32_t *)(vmcb + 0x70) == 0x81 ? begin / ROUNDS : 0);
}

static void measure_mix(void)
{
	for (uint32_t cpu = 1; cpu < online; cpu++)
		start(cpu, mix);
	mix();
	for (uint32_t cpu = 1; cpu < online; cpu++)
		wait(cpu);
	print("mix", hash);
	print("end", now());
}

static void fill_idt(void)
{
	uint32_t entry = (uint32_t)interrupt_entry;
	uint64_t gate = (uint64_t)((entry & 0xffff0000) | 0x8e00) << 32 | 8 << 16 | (entry & 0xffff);

	for (int i = 0; i < 256; i++)
		idt[i] = gate;
}

static void start_others(void)
{
	*apic(APIC_ICR) = ICR_INIT_ALL;
	loop(100000);
	*apic(APIC_ICR) = ICR_SIPI_ALL | 0xf0;
	loop(LOOPS);
}

static void measure(void)
{
	print("cpus", online);
	measure_instructions();
	measure_exits();
	measure_timers();
	if (online > 1) {
		measure_parallel();
		measure_ipis();
	}
	measure_mix();
}

__attribute__((noreturn)) void begin(uint32_t cpu)
{
	if (cpu == 0)
		fill_idt();
	init_cpu();
	if (cpu == 0) {
		start_others();
		measure();
		// The exit status is 1.
		asm volatile("outl %0, $0xf4" : : "a"(0));
	}
	for (;;) {
		if (cpus[cpu].job) {
			cpus[cpu].job();
			cpus[cpu].job = NULL;
		} else {
			halt();
		}
	}
}
