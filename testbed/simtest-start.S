// SPDX-License-Identifier: GPL-2.0
// Starts a processor in 32-bit mode with flat segments and a stack, and calls begin() with its number.

// The first processor comes from the reset vector, the others to the ROM's first byte, by page 0xf0 of the SIPI.
	.section .reset, "ax"
	.code16
	.globl reset
reset:
	jmp start16
	.section .text.start, "ax"
start16:
	cli
	lgdtl %cs:(gdt_descriptor - start16)
	movl %cr0, %eax
	orl $1, %eax
	movl %eax, %cr0
	ljmpl $8, $start32
	.code32
start32:
	movw $0x10, %ax
	movw %ax, %ds
	movw %ax, %es
	movw %ax, %ss
	movl 0xfee00020, %eax
	shrl $24, %eax
	movl %eax, %esp
	shll $12, %esp
	addl $0x51000, %esp
	pushl %eax
	call begin
	.balign 8
	.globl gdt
gdt:
	.quad 0, 0x00cf9b000000ffff, 0x00cf93000000ffff
gdt_descriptor:
	.word 23
	.long gdt
	.globl interrupt_entry
interrupt_entry:
	pusha
	call handle_interrupt
	popa
	iret
	.globl syscall_entry
syscall_entry:
	jmp *%ecx
	.globl guest
guest:
	vmmcall
	jmp guest
	.text
	.section .note.GNU-stack, "", @progbits
