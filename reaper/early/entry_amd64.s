//go:build holdfast_entry

#include "textflag.h"

// See entry.go. The stack and the registers are as the kernel gave them (x86-64 psABI 3.4.1), and stay so for the runtime.
TEXT holdfast_entry(SB),NOSPLIT|NOFRAME|TOPFRAME,$0
	MOVL	$14, AX			// rt_sigprocmask(2)
	MOVL	$2, DI			// SIG_SETMASK
	LEAQ	·every(SB), SI
	XORL	DX, DX
	MOVL	$8, R10
	SYSCALL
	LEAQ	runtime·sigtable(SB), R8
	CMPL	(1*24)(R8), $3		// SIGHUP: _SigNotify + _SigKill
	JNE	begin
	CMPL	(2*24)(R8), $3		// SIGINT
	JNE	begin
	CMPL	(3*24)(R8), $5		// SIGQUIT: _SigNotify + _SigThrow
	JNE	begin
	CMPL	(6*24)(R8), $5		// SIGABRT
	JNE	begin
	CMPL	(15*24)(R8), $3		// SIGTERM
	JNE	begin
	MOVL	$1, (1*24)(R8)		// _SigNotify
	MOVL	$1, (2*24)(R8)
	MOVL	$1, (3*24)(R8)
	MOVL	$1, (6*24)(R8)
	MOVL	$1, (15*24)(R8)
	MOVL	$1, ·spared(SB)
begin:
	MOVL	$0, BX
standard:
	MOVL	$72, AX			// fcntl(2)
	MOVL	BX, DI
	MOVL	$1, SI			// F_GETFD
	SYSCALL
	CMPQ	AX, $-9			// EBADF
	JNE	next
	MOVL	$257, AX		// openat(2), of an absolute path
	LEAQ	·null(SB), SI
	MOVL	$2, DX			// O_RDWR
	SYSCALL
	TESTQ	AX, AX
	JGE	next
	MOVL	$291, AX		// epoll_create1(2)
	XORL	DI, DI
	SYSCALL
next:
	INCL	BX
	CMPL	BX, $3
	JNE	standard
	XORL	DX, DX
	JMP	_rt0_amd64_linux(SB)

// func mend()
TEXT ·mend(SB),NOSPLIT,$0-0
	CMPL	·spared(SB), $1
	JNE	done
	LEAQ	runtime·sigtable(SB), R8
	MOVL	$3, (1*24)(R8)
	MOVL	$3, (2*24)(R8)
	MOVL	$5, (3*24)(R8)
	MOVL	$5, (6*24)(R8)
	MOVL	$3, (15*24)(R8)
done:
	RET

DATA ·every(SB)/8, $-1
GLOBL ·every(SB), NOPTR|RODATA, $8
DATA ·null+0(SB)/8, $"/dev/nul"
DATA ·null+8(SB)/8, $"l\x00\x00\x00\x00\x00\x00\x00"
GLOBL ·null(SB), NOPTR|RODATA, $16
